"""One picture of the console through the service, as a request over HTTP goes."""

import asyncio
import time
import uuid
from dataclasses import dataclass
from typing import Any

from twonines.errors import TwoninesError
from twonines.models.image import decode
from twonines.serving.answers import build_answer, slowest
from twonines.serving.console.parts import data_url
from twonines.serving.console.recorded import png_url
from twonines.serving.handling import Asker, inspect_and_note
from twonines.serving.intake import Upload
from twonines.serving.people.roles import Person
from twonines.serving.service import Service


@dataclass(frozen=True, slots=True)
class Seen:
    """One inspected picture, ready to be shown.

    ``result`` is what ``/v1/inspect`` gives for it; ``picture``, ``overlay`` and ``reference`` are
    data URLs, "" where there is none.
    """

    name: str
    result: dict[str, Any]
    timings_ms: dict[str, float]
    model: str
    picture: str = ""
    overlay: str = ""
    reference: str = ""


async def inspect(service: Service, person: Person, upload: Upload, model: str | None) -> Seen:
    """Inspect the one picture of ``upload``; an error is a result with the verdict ``ERROR``."""
    start = time.perf_counter()
    picture = upload.pictures[0]
    try:
        deadline = start + service.settings.request_timeout_s
        service.admit(person)
        with service.models.lease(model) as loaded:
            reference = await service.reference_of(loaded, upload)
            asker = Asker(person, uuid.uuid4().hex)
            done = await inspect_and_note(service, asker, loaded, upload, reference, deadline)
            body, _ = build_answer(upload, done.outcomes, done.noted, service.metrics)
            used = f"{loaded.name} {loaded.version}"
    except TwoninesError as exc:
        failed: dict[str, Any] = {
            "verdict": "ERROR", "id": None, "error": {"message": str(exc)}, "reasons": [],
        }  # fmt: skip
        return Seen(picture.name, failed, {}, model or "", await _shown(service, picture.data))
    timings = {**slowest(done.outcomes), "request": (time.perf_counter() - start) * 1e3}
    result = body["results"][0]
    overlay = ""
    if result["id"] and not result["error"]:
        try:
            overlay = await asyncio.to_thread(png_url, await service.overlay(result["id"]))
        except TwoninesError:  # the picture had no room among the recent ones
            overlay = ""
    return Seen(
        picture.name, result, timings, used,
        await _shown(service, picture.data), overlay, await _shown(service, reference or b""),
    )  # fmt: skip


async def _shown(service: Service, data: bytes) -> str:
    try:
        image = await asyncio.to_thread(decode, data, max_pixels=service.settings.max_pixels)
    except TwoninesError:
        return ""
    return await asyncio.to_thread(data_url, image)
