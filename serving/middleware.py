"""Request ids, and the answer for every error."""

import logging
import math
import uuid

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twonines.errors import NotReadyError, OverloadedError, TwoninesError
from twonines.serving.metrics import Metrics

log = logging.getLogger(__name__)
INSPECT_PATH = "/v1/inspect"
_FAULT = "an internal fault; the log has the details under this request id"
_MAX_ID = 128


class RequestId:
    """Gives every request an id, and an unforeseen fault a fixed text."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap ``app``."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope).get("x-request-id", ""))
        scope.setdefault("state", {})["request_id"] = request_id
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            log.info("request %s: the client has gone", request_id)
        except Exception:
            log.exception("request %s failed", request_id)
            if not started:
                body = {"error": _FAULT, "request_id": request_id}
                await JSONResponse(body, 500)(scope, receive, send_with_id)


def _request_id(given: str) -> str:
    """The client's id where it is harmless in a header and a log, else a new one."""
    fine = 0 < len(given) <= _MAX_ID and given.isascii() and given.isprintable()
    return given if fine else uuid.uuid4().hex


def add_errors(app: FastAPI, metrics: Metrics) -> None:
    """Answer every error of ours with its status, and all errors in one form."""

    @app.exception_handler(TwoninesError)
    async def ours(request: Request, exc: TwoninesError) -> JSONResponse:
        if request.url.path == INSPECT_PATH:  # a probe that finds us not ready is no rejection
            metrics.rejected.labels(type(exc).__name__).inc()
        headers = {}
        if isinstance(exc, OverloadedError):
            headers["Retry-After"] = str(math.ceil(exc.retry_after_s))
        elif isinstance(exc, NotReadyError):
            headers["Retry-After"] = "1"
        return _plain(request, str(exc), exc.status, headers)

    @app.exception_handler(HTTPException)
    async def theirs(request: Request, exc: HTTPException) -> JSONResponse:
        return _plain(request, str(exc.detail), exc.status_code, dict(exc.headers or {}))


def _plain(request: Request, text: str, status: int, headers: dict[str, str]) -> JSONResponse:
    return JSONResponse(
        {"error": text, "request_id": request.state.request_id}, status, headers=headers
    )
