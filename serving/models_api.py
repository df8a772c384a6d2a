"""Models and versions over HTTP."""

import asyncio
from dataclasses import asdict
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from twonines.serving.changes import Change, Changes, Outcome
from twonines.serving.roster import Entry
from twonines.serving.service import Service

_MAX_BODY = 16 * 2**10
_CHANGES: dict[int | str, dict[str, Any]] = {
    400: {"description": "an argument is outside its range"},
    202: {"description": "proposed; another person must approve"},
    404: {"description": "no such model or version"},
    409: {"description": "not possible in the state that things are in"},
    413: {"description": "the body is too large"},
    422: {"description": "the file is no model; nothing has changed"},
    503: {"description": "not ready, or the change cannot be written down; nothing has changed"},
}
_DECISIONS: dict[int | str, dict[str, Any]] = {
    400: {"description": "an argument is outside its range"},
    403: {"description": "the one who proposed, or no user"},
    404: {"description": "no such proposal"},
    409: {"description": "decided, void, or not possible any more; nothing has changed"},
    413: {"description": "the body is too large"},
}


class ChangeBody(BaseModel):
    """Why a version is to answer though it loses a case that was found downstream."""

    model_config = ConfigDict(extra="forbid")

    override: str = Field(min_length=1, max_length=1000)


def add_models(app: FastAPI, service: Service) -> None:
    """Add the routes to ``app``."""

    @app.get("/v1/models", tags=["models"], responses={503: {"description": "not ready"}})
    async def models() -> dict[str, Any]:
        """Every model: its active version with the whole card, and the state of all versions."""
        return {"models": await _shown(service)}

    changes = Changes(service)

    @app.post(
        "/v1/models/{name}/versions/{version}/{verb}",
        tags=["models"],
        responses=_CHANGES,
        max_body_size=_MAX_BODY,
    )
    async def change(
        request: Request,
        name: str,
        version: str,
        verb: Change,
        body: ChangeBody | None = None,
    ) -> JSONResponse:
        """Load, activate, run as a shadow, or unload one version, while the service answers.

        A version that loses a case of the regression set is activated only with ``override``.
        Where two persons are wanted, ``activate`` answers 202 with a proposal.
        """
        reason = body.override if body else None
        done = await changes.change(request.state.person, name, version, verb, reason)
        return await _answer(service, name, done)

    @app.post(
        "/v1/models/{name}/rollback",
        tags=["models"],
        responses=_CHANGES,
        max_body_size=_MAX_BODY,
    )
    async def rollback(request: Request, name: str, body: ChangeBody | None = None) -> JSONResponse:
        """Activate the version that was active before; as with any, it must lose no case."""
        reason = body.override if body else None
        done = await changes.rollback(request.state.person, name, reason)
        return await _answer(service, name, done)

    @app.get("/v1/approvals", tags=["models"])
    async def approvals() -> dict[str, Any]:
        """The newest proposals, and what became of them."""
        people = service.people
        found = await run_in_threadpool(people.approvals.list) if people else []
        return {"approvals": [asdict(one) for one in found]}

    @app.post(
        "/v1/approvals/{approval_id}/{decision}",
        tags=["models"],
        responses=_DECISIONS,
        max_body_size=_MAX_BODY,
    )
    async def decide(
        request: Request,
        approval_id: str,
        decision: Literal["approve", "reject"],
        body: ChangeBody | None = None,
    ) -> dict[str, Any]:
        """Approve a proposal of another person, which is then done at once, or reject it."""
        reason, person = body.override if body else None, request.state.person
        done = await changes.decide(person, approval_id, decision == "approve", reason)
        return asdict(done)


async def _answer(service: Service, name: str, done: Outcome) -> JSONResponse:
    if done.approval:
        return JSONResponse(asdict(done), 202)
    return JSONResponse({**(await _shown(service, name))[0], "regression": done.regression})


async def _shown(service: Service, name: str | None = None) -> list[dict[str, Any]]:
    """What is told of every model, or of one."""
    models = service.models
    default = models.default_name()
    return [
        {**await _describe(entry, versions), "default": entry.name == default}
        for entry, versions in await models.listing()
        if name in (None, entry.name)
    ]


async def _describe(entry: Entry, versions: list[str]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": entry.name,
        "version": None,
        "certificate": None,
        "card": None,
        "references": [],
    }
    if entry.active:
        with entry.active.lease() as active:
            stored = active.references
            told |= {
                **active.short,
                "choice": active.session.choice,
                "references": [] if stored is None else await asyncio.to_thread(stored.ids),
                "certificate": active.certificate(),
                "card": active.session.card.public(),
            }
    return {
        **told,
        "versions": [
            {"version": v, "state": entry.state(v), "error": entry.errors.get(v)} for v in versions
        ],
        "history": list(entry.record.history),
        "shadow": entry.shadow.report() if entry.shadow else None,
    }
