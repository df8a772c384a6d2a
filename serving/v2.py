"""The Open Inference Protocol v2 over HTTP, on the port of everything else.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
"""

import asyncio
import time
from dataclasses import replace
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from twonines import __version__
from twonines.errors import NotReadyError, TwoninesError
from twonines.serving.answers import count_error, slowest, timing_headers
from twonines.serving.handling import Asker, inspect_and_note
from twonines.serving.intake import read_timeout_s
from twonines.serving.loaded import LoadedModel
from twonines.serving.openapi import V2_BODY, V2_RESPONSES
from twonines.serving.service import Service
from twonines.serving.tracing import note_on_span
from twonines.serving.v2_answer import WORDS, encode, first_error, offered
from twonines.serving.v2_repository import add_v2_repository
from twonines.serving.v2_request import HEADER_LENGTH, Call, choose_outputs, read_call
from twonines.settings import ServeSettings

_MODEL = "/v2/models/{name}"
_VERSION = "/v2/models/{name}/versions/{version}"
_EXTENSIONS = ["binary_tensor_data", "model_configuration", "model_repository", "statistics"]
_UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: {"description": "no such model or version"},
    503: {"description": "not ready"},
}
_NOT_READY: dict[int | str, dict[str, Any]] = {503: {"description": "not ready"}}


def add_v2(app: FastAPI, service: Service) -> None:
    """Add the routes to ``app``."""

    @app.get("/v2", tags=["v2"])
    async def server() -> dict[str, Any]:
        """Name, version and extensions of the server."""
        return {"name": "twonines", "version": __version__, "extensions": _EXTENSIONS}

    @app.get("/v2/health/live", tags=["v2"], responses=_NOT_READY)
    async def live() -> dict[str, bool]:
        """As /healthz."""
        service.check_alive()
        return {"live": True}

    @app.get("/v2/health/ready", tags=["v2"], responses=_NOT_READY)
    async def ready() -> dict[str, bool]:
        """As /readyz."""
        service.check_ready()
        return {"ready": True}

    @app.get("/v2/models/stats", tags=["v2"], responses=_NOT_READY)
    async def all_statistics() -> dict[str, Any]:
        """Statistics of every model's active version, since it was loaded."""
        active = [entry.active for entry, _ in await service.models.listing()]
        return {"model_stats": [_statistics(loaded) for loaded in active if loaded]}

    @app.get(_MODEL, tags=["v2"], responses=_UNKNOWN)
    @app.get(_VERSION, tags=["v2"], responses=_UNKNOWN)
    async def model(name: str, version: str | None = None) -> dict[str, Any]:
        """Inputs and outputs of a model."""
        return _metadata(service.models.find(name, version))

    @app.get(_MODEL + "/ready", tags=["v2"], responses=_UNKNOWN)
    @app.get(_VERSION + "/ready", tags=["v2"], responses=_UNKNOWN)
    async def model_ready(name: str, version: str | None = None) -> dict[str, Any]:
        """Whether a model takes pictures."""
        if not service.models.find(name, version).batcher.is_ready:
            raise NotReadyError(f"model {name} takes no pictures now")
        return {"name": name, "ready": True}

    @app.get(_MODEL + "/config", tags=["v2"], responses=_UNKNOWN)
    @app.get(_VERSION + "/config", tags=["v2"], responses=_UNKNOWN)
    async def config(name: str, version: str | None = None) -> dict[str, Any]:
        """The model as a Triton configuration."""
        return _config(service.models.find(name, version), service.settings)

    @app.get(_MODEL + "/stats", tags=["v2"], responses=_UNKNOWN)
    @app.get(_VERSION + "/stats", tags=["v2"], responses=_UNKNOWN)
    async def statistics(name: str, version: str | None = None) -> dict[str, Any]:
        """Statistics of a model's active version, since it was loaded."""
        return {"model_stats": [_statistics(service.models.find(name, version))]}

    @app.post(_MODEL + "/infer", tags=["v2"], responses=V2_RESPONSES, openapi_extra=V2_BODY)
    @app.post(_VERSION + "/infer", tags=["v2"], responses=V2_RESPONSES, openapi_extra=V2_BODY)
    async def infer(request: Request, name: str, version: str | None = None) -> Response:
        """Inspect pictures, decoded or encoded; the verdicts are always among the outputs."""
        with service.metrics.requests.track_inprogress(), service.metrics.request.time():
            return await _infer(service, request, name, version)

    add_v2_repository(app, service)


async def _infer(service: Service, request: Request, name: str, version: str | None) -> Response:
    start, settings, models = time.perf_counter(), service.settings, service.models
    deadline = start + read_timeout_s(request, settings)
    models.admit(name, deadline, version=version)  # before the body is read
    service.admit(request.state.person)
    with service.uploads.hold() as held:
        call = await read_call(request, settings, held)
        if call.timeout_s is not None:
            deadline = min(deadline, start + call.timeout_s)
        # Only now: a slow upload must not keep an old version from being unloaded.
        with models.find(name, version).lease() as loaded:
            outputs = choose_outputs(call, offered(loaded.session))
            wanted = [output for output in outputs if output not in WORDS]
            reference = await _references(service, loaded, call)
            done = await inspect_and_note(
                service, Asker.of(request), loaded, call.upload, reference, deadline, wanted
            )
            head = {"model_name": loaded.name, "model_version": loaded.version}
        for outcome in done.outcomes:
            if isinstance(outcome, TwoninesError):
                count_error(service.metrics, outcome)
        if error := first_error(done.outcomes):
            body = {"error": str(error), "request_id": request.state.request_id}
            return JSONResponse(body, error.status)
        if call.id:
            head["id"] = call.id
        # Also within what is held: an answer with maps is as large as a request.
        text, length = await asyncio.to_thread(encode, head, done.outcomes, done.noted, outputs)
    timings_ms = {**slowest(done.outcomes), "request": (time.perf_counter() - start) * 1e3}
    if service.records:
        timings_ms["record"] = done.record_s * 1e3
    note_on_span(timings_ms)
    headers = timing_headers(timings_ms)
    if length is None:
        return Response(text, headers=headers, media_type="application/json")
    headers[HEADER_LENGTH] = str(length)
    return Response(text, headers=headers, media_type="application/octet-stream")


async def _references(
    service: Service, loaded: LoadedModel, call: Call
) -> bytes | list[bytes] | None:
    """The references that came with the pictures, or the stored one that is named.

    Raises:
        InputError: as :meth:`Service.reference_of`, or one of them is too large.
    """
    given = call.references
    # Whether one is wanted, and one that was refused, is for the service to say.
    first = next((one for one in given or () if one.error), given[0] if given else None)
    one = await service.reference_of(loaded, replace(call.upload, reference=first))
    return one if given is None else [reference.data for reference in given]


def _inputs(loaded: LoadedModel) -> tuple[str, ...]:
    return ("images", "references") if loaded.session.card.reference else ("images",)


def _metadata(loaded: LoadedModel) -> dict[str, Any]:
    return {
        "name": loaded.name,
        "versions": [loaded.version],
        "platform": "onnx_onnxv1",
        "inputs": [
            {"name": name, "datatype": "UINT8", "shape": [-1, -1, -1, 3]}
            for name in _inputs(loaded)
        ],
        "outputs": list(offered(loaded.session).values()),
    }


def _config(loaded: LoadedModel, settings: ServeSettings) -> dict[str, Any]:
    """What Triton's tools ask for; its names of types, and shapes without the batch."""
    return {
        "name": loaded.name,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "max_batch_size": settings.max_files,
        "input": [
            {"name": name, "data_type": "TYPE_UINT8", "dims": [-1, -1, 3]}
            for name in _inputs(loaded)
        ],
        "output": [
            {
                "name": name,
                "data_type": {"BYTES": "TYPE_STRING"}.get(
                    told["datatype"], f"TYPE_{told['datatype']}"
                ),
                "dims": told["shape"][1:] or [1],
            }
            for name, told in offered(loaded.session).items()
        ],
        "dynamic_batching": {},
    }


def _statistics(loaded: LoadedModel) -> dict[str, Any]:
    shown = loaded.batcher.statistics.shown()
    return {"name": loaded.name, "version": loaded.version, **shown}
