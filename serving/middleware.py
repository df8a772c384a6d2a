"""Request ids, traces, a log line for every request, and the answer for every error."""

import logging
import math
import os
import re
import time
from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twonines.errors import LoginError, NotReadyError, OverloadedError, TwoninesError
from twonines.serving.logs import REQUEST_ID, TRACE_ID
from twonines.serving.metrics import Metrics
from twonines.serving.tracing import find_trace_id

log = logging.getLogger(__name__)
INSPECT_PATH = "/v1/inspect"
_BRINGS_PICTURES = re.compile(rf"{INSPECT_PATH}|/v2/models/[^/]+(?:/versions/[^/]+)?/infer")
_FAULT = "an internal fault; the log has the details under this request id"
_TOO_LARGE = "body: must be smaller for this route"
_MAX_ID = 128
_REFUSALS = (429, 503)


class RequestId:
    """Gives every request an id and, if wanted, a log line; a fault gets a fixed text.

    While the service drains, every answer closes its connection, so that none is left idle when
    the service ends: a request sent on such a one would be lost.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        is_draining: Callable[[], bool],
        log_requests: bool = False,
    ) -> None:
        """Wrap ``app``."""
        self._app, self._metrics = app, metrics
        self._is_draining, self._log_requests = is_draining, log_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = _request_id(headers.get("x-request-id", ""))
        scope.setdefault("state", {})["request_id"] = request_id
        # Not reset: each request has a task, and so a context, of its own.
        REQUEST_ID.set(request_id)
        TRACE_ID.set(find_trace_id(headers.get("traceparent", "")))
        await self._answer(scope, receive, send, request_id)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        start, status, is_theirs = time.perf_counter(), 0, False

        async def send_with_id(message: Message) -> None:
            nonlocal status, is_theirs
            if message["type"] == "http.response.start":
                if _is_plain_413(message):
                    body = {"error": _TOO_LARGE, "request_id": request_id}
                    await JSONResponse(body, 413)(scope, receive, send_with_id)
                    is_theirs = True
                    return
                status = message["status"]
                headers = [*message["headers"], (b"x-request-id", request_id.encode("latin-1"))]
                if self._is_draining():
                    headers.append((b"connection", b"close"))
                message["headers"] = headers
            elif is_theirs:
                return
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            log.info("the client has gone")
        except Exception:
            log.exception("the request failed")
            if not status:
                body = {"error": _FAULT, "request_id": request_id}
                await JSONResponse(body, 500)(scope, receive, send_with_id)
        self._note(scope, status, time.perf_counter() - start)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        if status in _REFUSALS and scope["method"] == "POST":
            self._metrics.refusal.observe(seconds)
        if self._log_requests:
            fields = {
                "method": scope["method"], "path": scope["path"], "status": status,
                "duration_ms": round(seconds * 1e3, 3),
            }  # fmt: skip
            log.info("request", extra={"fields": fields})


def _is_plain_413(message: Message) -> bool:
    """Whether it is the answer of the framework's own limit, which knows no JSON."""
    if message["status"] != 413:
        return False
    return Headers(raw=message["headers"]).get("content-type", "").startswith("text/plain")


def _request_id(given: str) -> str:
    """The client's id where it is harmless in a header and a log, else a new one."""
    fine = 0 < len(given) <= _MAX_ID and given.isascii() and given.isprintable()
    return given if fine else os.urandom(16).hex()


def add_errors(app: FastAPI, metrics: Metrics) -> None:
    """Answer every error of ours with its status, and all errors in one form."""

    @app.exception_handler(TwoninesError)
    async def ours(request: Request, exc: TwoninesError) -> JSONResponse:
        return reject(request, exc, metrics)

    # No database, no certainty of what would be stored or who asks: nothing is answered.
    @app.exception_handler(SQLAlchemyError)
    async def database(request: Request, exc: SQLAlchemyError) -> JSONResponse:
        log.error("the database failed", exc_info=exc)
        return error_answer(request, NotReadyError("the database is not available"))

    @app.exception_handler(RequestValidationError)
    async def arguments(request: Request, exc: RequestValidationError) -> JSONResponse:
        first = exc.errors()[0]
        name = ".".join(str(part) for part in first["loc"][1:]) or "body"
        text = f"{name}: {first['msg']}"
        if first["type"] == "json_invalid":  # its place is a number of characters, no name
            text = f"body: must be JSON, {first['ctx']['error']} (character {name})"
        return _plain(request, text, 422, {})

    @app.exception_handler(HTTPException)
    async def theirs(request: Request, exc: HTTPException) -> JSONResponse:
        return _plain(request, str(exc.detail), exc.status_code, dict(exc.headers or {}))


def brings_pictures(scope: Scope) -> bool:
    """Whether the request asks for verdicts."""
    return scope["method"] == "POST" and _BRINGS_PICTURES.fullmatch(scope["path"]) is not None


def reject(request: Request, exc: TwoninesError, metrics: Metrics) -> JSONResponse:
    """The answer for an error of ours, counted where pictures were brought."""
    # A probe that finds us not ready is no rejection.
    if brings_pictures(request.scope):
        metrics.rejected.labels(type(exc).__name__).inc()
    return error_answer(request, exc)


def error_answer(request: Request, exc: TwoninesError) -> JSONResponse:
    """The answer for an error of ours."""
    headers = {}
    if isinstance(exc, OverloadedError):
        headers["Retry-After"] = str(math.ceil(exc.retry_after_s))
    elif isinstance(exc, NotReadyError):
        headers["Retry-After"] = "1"
    elif isinstance(exc, LoginError):
        headers["WWW-Authenticate"] = "Bearer"
    return _plain(request, str(exc), exc.status, headers)


def _plain(request: Request, text: str, status: int, headers: dict[str, str]) -> JSONResponse:
    return JSONResponse(
        {"error": text, "request_id": request.state.request_id}, status, headers=headers
    )
