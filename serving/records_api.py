"""Records over HTTP."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from twonines.errors import NotReadyError, SettingsError, UnknownError
from twonines.serving.export_api import add_export
from twonines.serving.intake import read_bounded
from twonines.serving.people.signing import Signature
from twonines.serving.record_filters import check_names, read_filters
from twonines.serving.service import Service
from twonines.serving.showing import media_type, viewable
from twonines.serving.store.entries import Recorded
from twonines.serving.store.findings import Report
from twonines.serving.store.ids import is_id
from twonines.serving.store.query import MAX_LIMIT, Filters
from twonines.serving.store.records import Records

_MAX_BODY = 64 * 2**10
"""The longest note and fields, with every letter escaped."""
_RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"description": "an argument is outside its range"},
    404: {"description": "not recorded, or its picture is not kept"},
    503: {"description": "nothing is recorded here, or the store does not work"},
}
_SAID = {**_RESPONSES, 413: {"description": "the body is too large"}}
_SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": "private, no-cache",
}


class ReviewBody(BaseModel):
    """One person's decision."""

    model_config = ConfigDict(extra="forbid")

    verdict: Literal["OK", "NG"]
    defect_class: str | None = Field(default=None, alias="class")
    note: str = ""
    seconds: float | None = None
    reviewer: str | None = None


class FindingBody(BaseModel):
    """What was found out downstream."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["escape", "overkill"]
    inspection_id: str | None = None
    picture_digest: str | None = None
    part_id: str | None = None
    lot: str | None = None
    defect_class: str | None = Field(default=None, alias="class")
    note: str = ""
    reporter: str | None = None


def add_records(app: FastAPI, service: Service) -> None:
    """Add the routes to ``app``."""

    def known(key: str) -> str:
        # Also what no database need be asked for.
        if service.records is not None and not is_id(key):
            raise UnknownError("id: must be of an inspection that is recorded; this one is not")
        return key

    def records() -> Records:
        if service.records is None:
            raise NotReadyError(
                "this service records nothing; start it with --data-dir, and not with --no-records"
            )
        return service.records

    async def shown(found: Recorded) -> dict[str, Any]:
        reviews = await asyncio.to_thread(records().reviews, found.id)
        findings = await asyncio.to_thread(records().findings_of, found.id)
        return {
            **found.public(),
            "reviews": [one.public() for one in reviews],
            "findings": [one.public() for one in findings],
        }

    @app.get("/v1/inspections", tags=["records"], responses=_RESPONSES)
    async def inspections(
        request: Request,
        filters: Annotated[Filters, Depends(read_filters)],
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
        cursor: str | None = None,
        order: Literal["newest", "oldest"] = "newest",
    ) -> dict[str, Any]:
        """Inspections that meet all filters; ``cursor`` of a page asks for the next."""
        check_names(request, "limit", "cursor", "order")
        page = await asyncio.to_thread(
            records().query,
            filters,
            limit=limit,
            cursor=cursor,
            newest_first=order == "newest",
        )
        return {"inspections": [one.public() for one in page.items], "cursor": page.cursor}

    # Before the route below, which would take its path for an id.
    add_export(app, records)

    @app.get("/v1/inspections/{inspection_id}", tags=["records"], responses=_RESPONSES)
    async def inspection(inspection_id: str) -> dict[str, Any]:
        """One inspection with its reviews and findings."""
        return await shown(await asyncio.to_thread(records().get, known(inspection_id)))

    @app.get(
        "/v1/inspections/{inspection_id}/picture",
        tags=["records"],
        response_class=Response,
        responses={200: {"content": {"image/*": {}}}, **_RESPONSES},
    )
    async def picture(inspection_id: str) -> Response:
        """The picture as it was uploaded; one that came as raw pixels is given as PNG."""
        data, _ = await service.picture(known(inspection_id))
        data = await asyncio.to_thread(viewable, data)
        return Response(data, media_type=media_type(data), headers=_SAFE)

    @app.get(
        "/v1/inspections/{inspection_id}/overlay",
        tags=["records"],
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}, **_RESPONSES},
    )
    async def overlay(inspection_id: str) -> Response:
        """The picture with the model's map, the regions and the verdict, as PNG."""
        return Response(await service.overlay(known(inspection_id)), media_type="image/png")

    @app.post(
        "/v1/inspections/{inspection_id}/reviews",
        tags=["records"],
        status_code=201,
        responses={
            **_SAID,
            403: {"description": "more than one must look at it, and an API key is no person"},
            409: {"description": "this person has reviewed it before"},
        },
        max_body_size=_MAX_BODY,
    )
    async def review(request: Request, inspection_id: str, body: ReviewBody) -> dict[str, Any]:
        """One person's decision on an inspection."""
        person = request.state.person
        signed = Signature.of(person, "reviewer", body.reviewer)
        found = await asyncio.to_thread(
            records().add_review,
            known(inspection_id),
            reviewer=signed.name,
            verdict=body.verdict,
            defect_class=body.defect_class,
            note=body.note,
            seconds=body.seconds,
        )
        told = {"verdict": body.verdict, **signed.told}
        await service.note_act(person.actor, "review", inspection_id, told)
        return await shown(found)

    @app.get("/v1/findings", tags=["records"], responses=_RESPONSES)
    async def findings(
        kind: Literal["escape", "overkill"] | None = None,
        part_id: str | None = None,
        lot: str | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 100,
    ) -> dict[str, Any]:
        """What was found out downstream, newest first."""
        where = {"kind": kind, "part_id": part_id, "lot": lot}
        given = {name: value for name, value in where.items() if value is not None}
        found = await asyncio.to_thread(lambda: records().findings(limit, **given))
        return {"findings": [one.public() for one in found]}

    @app.post(
        "/v1/findings",
        tags=["records"],
        status_code=201,
        responses=_SAID,
        max_body_size=_MAX_BODY,
    )
    async def finding(request: Request, body: FindingBody) -> dict[str, Any]:
        """A defect or an overkill that was found downstream; it joins the regression set.

        ``pictures`` says how many pictures have joined. Where a picture was not kept it can be
        sent to ``/v1/findings/{id}/pictures``.
        """
        person = request.state.person
        signed = Signature.of(person, "reporter", body.reporter)
        report = Report(**body.model_dump(exclude={"reporter"}))
        if report.inspection_id is not None:
            known(report.inspection_id)
        found = await asyncio.to_thread(records().add_finding, report, reporter=signed.name)
        told = {"kind": found.kind, **signed.told}
        await service.note_act(person.actor, "finding", found.id, told)
        return dict(found.public())

    @app.post(
        "/v1/findings/{finding_id}/pictures",
        tags=["records"],
        status_code=201,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
            }
        },
        responses={
            **_RESPONSES,
            408: {"description": "upload too slow"},
            409: {"description": "the finding has it already"},
            413: {"description": "too many bytes"},
            415: {"description": "the body is compressed"},
            429: {"description": "upload room full; see Retry-After"},
        },
    )
    async def finding_picture(request: Request, finding_id: str, model: str) -> dict[str, Any]:
        """Add a picture to the case of a finding, for the model of this name."""
        service.models.entry(model)
        with service.uploads.hold() as held:
            limit = min(service.settings.max_bytes, service.settings.max_inflight_bytes)
            data = await read_bounded(request, service.settings, limit, held)
            if media_type(data) == "application/octet-stream":
                raise SettingsError("body: must be a picture")
            found = await asyncio.to_thread(
                records().add_finding_picture, finding_id, data, model_name=model
            )
        return dict(found.public())
