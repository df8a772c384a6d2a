"""The HTTP service."""

import asyncio
import importlib.resources
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.requests import ClientDisconnect

from twonines import __version__
from twonines.errors import (
    DeadlineError,
    NotReadyError,
    TooLargeError,
    TwoninesError,
    UnknownError,
)
from twonines.models.image import decode, encode_png
from twonines.models.overlay import explain
from twonines.models.session import InspectionSession
from twonines.serving.answers import build_answer, slowest
from twonines.serving.batcher import Answer, Batcher
from twonines.serving.intake import Picture, Upload, read_upload
from twonines.serving.metrics import Metrics
from twonines.serving.middleware import INSPECT_PATH, RequestId, add_errors
from twonines.serving.recent import Recent
from twonines.serving.room import UploadRoom
from twonines.settings import ServeSettings

log = logging.getLogger(__name__)
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "files": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                        },
                        "part_id": {"type": "string", "maxLength": 200},
                        "lot": {"type": "string", "maxLength": 200},
                        "station": {"type": "string", "maxLength": 200},
                    },
                }
            },
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
_STATUSES = {
    400: "malformed form",
    408: "upload too slow",
    413: "too many bytes, pixels or files",
    415: "not a picture",
    422: "cannot be decoded",
    429: "queue or upload room full; see Retry-After",
    503: "not ready",
    504: "not answered in time",
}
_RESPONSES: dict[int | str, dict[str, Any]] = {s: {"description": t} for s, t in _STATUSES.items()}


class Service:
    """The parts that live as long as the app."""

    def __init__(self, settings: ServeSettings) -> None:
        """Nothing is loaded before :meth:`start`."""
        self.settings, self.metrics = settings, Metrics()
        self.session: InspectionSession | None = None
        self.batcher: Batcher | None = None
        self.recent = Recent(settings.max_recent_bytes)
        self.uploads = UploadRoom(settings.max_inflight_bytes)
        self._drawing = asyncio.Semaphore(1)  # one at a time: each holds several large pictures

    def start(self) -> None:
        """Load and warm the model."""
        settings = self.settings
        session = InspectionSession.load(
            settings.model,
            execution_provider=settings.execution_provider,
            threads=settings.threads,
        )
        for count in (1, settings.max_batch_size):
            session.run(np.zeros((count, *session.input_size, 3), np.uint8))
        card = session.card
        self.metrics.model.labels(
            card.name, card.version, session.digest, session.execution_provider
        ).set(1)
        self.session = session
        self.batcher = Batcher(
            session,
            max_batch_size=settings.max_batch_size,
            max_wait_ms=settings.max_wait_ms,
            queue_size=settings.queue_size,
            decode_workers=settings.decode_workers,
            max_pixels=settings.max_pixels,
            max_decode_pixels=settings.max_decode_pixels,
            metrics=self.metrics,
        )
        log.info("model %s %s on %s", card.name, card.version, session.choice)

    def stop(self) -> None:
        """Answer what was taken."""
        batcher, self.batcher = self.batcher, None
        if batcher:
            batcher.close()

    def model(self) -> dict[str, Any]:
        """What answers, in short."""
        if self.session is None:
            raise NotReadyError("the model is not loaded yet")
        return {
            "name": self.session.card.name,
            "version": self.session.card.version,
            "digest": self.session.digest,
            "execution_provider": self.session.execution_provider,
        }

    async def overlay(self, key: str) -> bytes:
        """The PNG that shows a recent inspection.

        Raises:
            UnknownError: the id is unknown, or its picture had to make room for newer ones.
        """
        session, data = self.session, self.recent.get(key)
        if session is None:
            raise NotReadyError("the model is not loaded yet")
        if data is None:
            raise UnknownError("id: must be of a recent inspection; this one is not kept")
        async with self._drawing:
            return await asyncio.to_thread(_overlay_png, session, data, self.settings.max_pixels)

    async def inspect(self, pictures: Sequence[Picture]) -> list[Answer | TwoninesError]:
        """An answer or an error for every picture, in order.

        Raises:
            OverloadedError: there is no room for all of them; none is inspected.
            TooLargeError: there will never be room for all of them.
            DeadlineError: not all were answered in time.
        """
        batcher = self.batcher
        if batcher is None:
            raise NotReadyError("the service is not ready")
        data = [picture.data for picture in pictures if picture.error is None]
        if len(data) > self.settings.queue_size:
            raise TooLargeError(
                f"files: at most {self.settings.queue_size} fit in the queue, got {len(data)}"
            )
        futures = [asyncio.wrap_future(future) for future in batcher.submit_all(data)]
        taken = iter(futures)
        found = [picture.error or next(taken) for picture in pictures]
        try:
            if futures:
                _, late = await asyncio.wait(futures, timeout=self.settings.request_timeout_s)
                if late:
                    limit = self.settings.request_timeout_s
                    raise DeadlineError(f"{len(late)} pictures were not answered in {limit} s")
        finally:
            for future in futures:
                future.cancel()
        return [self._outcome(item) for item in found]

    def _outcome(self, item: TwoninesError | asyncio.Future[Answer]) -> Answer | TwoninesError:
        if isinstance(item, TwoninesError):
            return item
        exc = item.exception()
        if exc is None:
            return item.result()
        if isinstance(exc, TwoninesError):
            return exc
        log.error("a picture failed", exc_info=exc)
        return TwoninesError("the picture could not be inspected")


def _overlay_png(session: InspectionSession, data: bytes, max_pixels: int) -> bytes:
    _, drawn = explain(session, decode(data, max_pixels=max_pixels))
    return encode_png(drawn)


def create_app(settings: ServeSettings) -> FastAPI:
    """Build the service; the model is loaded when the app starts."""
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(service.start)
        yield
        await asyncio.to_thread(service.stop)

    app = FastAPI(title="twonines", version=__version__, lifespan=lifespan)
    app.state.service = service
    app.add_middleware(RequestId)
    add_errors(app, service.metrics)
    _add_pages(app, service)

    @app.post(INSPECT_PATH, responses=_RESPONSES, openapi_extra=_BODY, tags=["inspect"])
    async def inspect(request: Request) -> JSONResponse:
        """Inspect one picture or many; a verdict for each, in order."""
        start = time.perf_counter()
        metrics = service.metrics
        with metrics.requests.track_inprogress(), metrics.request.time():
            if service.batcher is None:
                raise NotReadyError("the service is not ready")
            with service.uploads.hold() as held:
                upload = await read_upload(request, settings, held)
                outcomes = await _while_connected(request, service, upload)
                body, status = build_answer(upload, outcomes, metrics, service.recent)
            body["model"] = service.model()
            seconds = time.perf_counter() - start
            body["timings_ms"] = {**slowest(outcomes), "request": seconds * 1e3}
            body["request_id"] = request.state.request_id
            return JSONResponse(body, status)

    return app


async def _while_connected(
    request: Request, service: Service, upload: Upload
) -> list[Answer | TwoninesError]:
    """Inspect; where the client goes away before, drop what has not begun."""
    work = asyncio.create_task(service.inspect(upload.pictures))
    gone = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientDisconnect
        return work.result()
    finally:
        work.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _add_pages(app: FastAPI, service: Service) -> None:
    page = importlib.resources.files("twonines.serving").joinpath("static/index.html").read_text()

    @app.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(page)

    @app.get(
        "/v1/inspections/{inspection_id}/overlay",
        tags=["inspect"],
        response_class=Response,
        responses={
            200: {"content": {"image/png": {}}, "description": "picture, map and regions"},
            404: {"description": "not a recent inspection"},
        },
    )
    async def overlay(inspection_id: str) -> Response:
        """Show a recent inspection as PNG."""
        return Response(await service.overlay(inspection_id), media_type="image/png")

    @app.get("/v1/models", tags=["models"])
    async def models() -> dict[str, Any]:
        """The model that answers, with its whole card."""
        short = service.model()
        assert service.session is not None
        return {
            "models": [
                {**short, "choice": service.session.choice, "card": service.session.card.public()}
            ]
        }

    @app.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, str]:
        """The process lives."""
        return {"status": "alive"}

    @app.get("/readyz", tags=["health"], responses={503: {"description": "not ready"}})
    async def readyz() -> dict[str, str]:
        """The model is loaded and takes pictures."""
        if service.batcher is None:
            raise NotReadyError("the service is not ready")
        return {"status": "ready"}

    @app.get("/metrics", tags=["health"])
    async def metrics() -> Response:
        """Prometheus metrics."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")
