"""The HTTP service."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline

from twonines import __version__
from twonines.errors import SettingsError
from twonines.serving.answers import build_answer, slowest, timing_headers
from twonines.serving.handling import Asker, inspect_and_note
from twonines.serving.intake import Upload, is_form, read_timeout_s, read_upload
from twonines.serving.middleware import INSPECT_PATH, RequestId, add_errors
from twonines.serving.models_api import add_models
from twonines.serving.openapi import BODY, RESPONSES
from twonines.serving.pages import add_pages
from twonines.serving.people.guard import Guard
from twonines.serving.people.people_api import add_people
from twonines.serving.records_api import add_records
from twonines.serving.service import Service as Service
from twonines.serving.tracing import note_on_span
from twonines.serving.turnstile import Turnstile
from twonines.serving.v2 import add_v2
from twonines.settings import ServeSettings


def create_app(settings: ServeSettings) -> FastAPI:
    """Build the service; models are loaded when the app starts."""
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await run_in_threadpool(service.stop)

    # Its pages bring their scripts along: a line has no internet.
    # A redirect from a path with a slash too many would lead to whatever host the client names.
    app = FastAPIOffline(
        title="twonines", version=__version__, lifespan=lifespan, redirect_slashes=False
    )
    app.state.service = service
    app.add_middleware(
        Guard,
        people=lambda: service.people,
        routes=lambda: app.routes,
        stores=settings.data_dir is not None,
        insecure=settings.insecure_no_login,
    )
    app.add_middleware(
        Turnstile, models=lambda: service.models, timeout_s=settings.request_timeout_s,
        metrics=service.metrics,
    )  # fmt: skip
    app.add_middleware(
        RequestId,
        metrics=service.metrics,
        is_draining=lambda: service.draining,
        log_requests=settings.log_requests,
    )
    add_errors(app, service.metrics)

    # Before our others, because guard and router look at one route after the other.
    @app.post(INSPECT_PATH, responses=RESPONSES, openapi_extra=BODY, tags=["inspect"])
    async def inspect(request: Request) -> JSONResponse:
        """Inspect one picture or many; a verdict for each, in order."""
        start = time.perf_counter()
        metrics = service.metrics
        with metrics.requests.track_inprogress(), metrics.request.time():
            deadline, models = start + read_timeout_s(request, settings), service.models
            # Before the body is read, which alone may name the model where it is a form.
            model = request.query_params.get("model")
            models.admit(model, deadline, is_form=is_form(request))
            service.admit(request.state.person)
            with service.uploads.hold() as held:
                upload = await read_upload(request, settings, held)
                # Only now: a slow upload must not keep an old version from being unloaded.
                with models.lease(_model_name(request, upload)) as loaded:
                    reference = await service.reference_of(loaded, upload)
                    done = await inspect_and_note(
                        service, Asker.of(request), loaded, upload, reference, deadline
                    )
                    body, status = build_answer(upload, done.outcomes, done.noted, metrics)
                    body["model"] = loaded.short
            seconds = time.perf_counter() - start
            times = {**slowest(done.outcomes), "request": seconds * 1e3}
            if service.records:
                times["record"] = done.record_s * 1e3
            body["timings_ms"] = times
            body["request_id"] = request.state.request_id
            note_on_span(body["timings_ms"])
            return JSONResponse(body, status, timing_headers(body["timings_ms"]))

    add_pages(app, service)
    add_models(app, service)
    add_people(app, service)
    add_records(app, service)
    add_v2(app, service)
    return app


def _model_name(request: Request, upload: Upload) -> str | None:
    given = {*request.query_params.getlist("model"), upload.fields.get("model")} - {None, ""}
    if len(given) > 1:
        names = ", ".join(sorted(map(repr, given)))
        raise SettingsError(f"model: must be one in query and form, got {names}")
    return next(iter(given), None)
