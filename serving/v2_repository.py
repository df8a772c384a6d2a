"""The model repository of the Open Inference Protocol v2, over the service's own.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md
"""

from typing import Any, TypeVar

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from twonines.errors import ConflictError, SettingsError, UnknownError
from twonines.serving.changes import Changes, Outcome
from twonines.serving.intake import read_bounded
from twonines.serving.people.roles import Person
from twonines.serving.repository import Repository
from twonines.serving.roster import Entry
from twonines.serving.service import Service
from twonines.serving.v2_request import validated

M = TypeVar("M", bound=BaseModel)
_MODEL = "/v2/repository/models/{name}"
_MAX_BYTES = 64 * 2**10
_STATES: dict[int | str, dict[str, Any]] = {
    202: {"description": "proposed; another person must approve"},
    400: {"description": "a malformed request, or a parameter that is not known"},
    404: {"description": "no such model or version"},
    409: {"description": "not possible in the state that things are in"},
    422: {"description": "the file is no model, and nothing has changed"},
    408: {"description": "upload too slow"},
    413: {"description": "too many bytes"},
    415: {"description": "the body is compressed"},
    429: {"description": "upload room full; see Retry-After"},
    503: {"description": "not ready"},
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Index(_Part):
    ready: bool = False


class _LoadParameters(_Part):
    version: str | None = None  # ours; the configuration is in the file, and cannot be given


class _Load(_Part):
    parameters: _LoadParameters = _LoadParameters()


class _UnloadParameters(_Part):
    unload_dependents: bool = False  # no model depends on another one


class _Unload(_Part):
    parameters: _UnloadParameters = _UnloadParameters()


def _body(**properties: dict[str, Any]) -> dict[str, Any]:
    """What the OpenAPI says of a body that need not be there."""
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {"requestBody": {"content": {"application/json": {"schema": schema}}}}


_INDEX_BODY = _body(ready={"type": "boolean", "description": "only what is ready"})
_LOAD_BODY = _body(parameters={"type": "object", "properties": {"version": {"type": "string"}}})
_UNLOAD_BODY = _body(
    parameters={"type": "object", "properties": {"unload_dependents": {"type": "boolean"}}}
)


def add_v2_repository(app: FastAPI, service: Service) -> None:
    """Add the routes to ``app``."""
    changes = Changes(service)

    async def read(request: Request, kind: type[M]) -> M:
        # The public client sends JSON without saying so, or nothing.
        with service.uploads.hold() as held:
            text = await read_bounded(request, service.settings, _MAX_BYTES, held)
            return validated(kind, text or b"{}")

    @app.post("/v2/repository/index", tags=["v2"], responses=_STATES, openapi_extra=_INDEX_BODY)
    async def index(request: Request) -> list[dict[str, str]]:
        """Every version of every model; READY is the one that answers."""
        asked = await read(request, _Index)
        return [
            shown
            for entry, versions in await service.models.listing()
            for shown in (_describe(entry, version) for version in versions)
            if shown["state"] == "READY" or not asked.ready
        ]

    @app.post(_MODEL + "/load", tags=["v2"], responses=_STATES, openapi_extra=_LOAD_BODY)
    async def load(
        request: Request,
        name: str,
        version: str | None = Query(default=None, description="as the parameter of this name"),
    ) -> JSONResponse:
        """Let a version answer, as activate does, its file read again where that has changed.

        Without a version: the active one, or the one that was before the model was unloaded, or
        the newest of a model that has never been loaded. A bad file changes nothing, nor does a
        version that loses a known escape. Where two persons are wanted, 202 with a proposal.
        """
        given = (await read(request, _Load)).parameters.version
        if version and given and version != given:
            raise SettingsError(
                f"version: must be the same in query and body, got {version!r}, {given!r}"
            )
        models = service.models
        done = await _load(changes, request.state.person, models, name, version or given)
        return _answer(done, "load")

    @app.post(_MODEL + "/unload", tags=["v2"], responses=_STATES, openapi_extra=_UNLOAD_BODY)
    async def unload(request: Request, name: str) -> JSONResponse:
        """Take the model out of service: every version of it, when it has answered.

        Where two persons are wanted, 202 with a proposal.
        """
        await read(request, _Unload)
        return _answer(await changes.unload_model(request.state.person, name), "unload")


def _answer(done: Outcome, verb: str) -> JSONResponse:
    if done.approval is None:
        return JSONResponse({})
    # Not 200: the public client would take it for done.
    text = f"model: {verb} of {done.approval.subject} is proposed; another person must approve"
    return JSONResponse({"error": text, "approval": done.approval.id}, 202)


async def _load(
    changes: Changes, person: Person, models: Repository, name: str, version: str | None
) -> Outcome:
    """Load a model as the protocol means it.

    Raises:
        TwoninesError: as :meth:`Changes.change`; nothing has changed.
    """
    listed = {entry.name: (entry, versions) for entry, versions in await models.listing()}
    if name not in listed:
        raise UnknownError(f"model: must be one of {', '.join(listed)}, got {name!r}")
    entry, versions = listed[name]
    record = entry.record
    if version or record.active:
        return await changes.change(person, name, version or record.active or "", "activate")
    if record.history:
        return await changes.rollback(person, name)
    if not versions:
        raise ConflictError(f"model: {name} has no file any more")
    return await changes.change(person, name, versions[-1], "activate")


def _describe(entry: Entry, version: str) -> dict[str, str]:
    """One row of the index; a version that is loaded but does not answer is not ready."""
    state, active = entry.state(version), entry.active
    if state == "active" and active is not None:
        word = "READY" if active.batcher.is_ready else "LOADING"
        reason = "" if word == "READY" else "its session is being replaced"
    else:
        word = "UNLOADING" if state == "draining" else "UNAVAILABLE"
        reason = entry.errors.get(version, state)
    return {"name": entry.name, "version": version, "state": word, "reason": reason}
