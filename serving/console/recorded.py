"""Inspections from the records, as pages show them."""

import asyncio
import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import numpy as np
from nicegui import ui
from PIL import Image as PILImage

from twonines.errors import SettingsError, TwoninesError
from twonines.models.image import decode
from twonines.serving.console.parts import data_url, facts, notice, shot
from twonines.serving.console.view import View
from twonines.serving.service import Service
from twonines.serving.store.entries import Recorded
from twonines.serving.store.records import Records
from twonines.types import GOOD

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pictures:
    """Data URLs of an inspection; "" where there is none, and then ``fault`` says why."""

    picture: str = ""
    overlay: str = ""
    reference: str = ""
    fault: str = ""


def records_of(view: View) -> Records:
    """The records.

    Raises:
        SettingsError: the service stores nothing.
    """
    records = view.desk.service.records
    if records is None:
        raise SettingsError("data_dir: must be given for this page, got none")
    return records


async def ask(question: Callable[[], T]) -> T:
    """What the records say; they block, and the event loop must not."""
    return await asyncio.to_thread(question)


async def load_pictures(service: Service, key: str) -> Pictures:
    """The pictures of an inspection."""
    try:
        data, reference = await service.picture(key)
        picture = await _url(data, service.settings.max_pixels)
        golden = await _url(reference, service.settings.max_pixels) if reference else ""
        overlay = await asyncio.to_thread(png_url, await service.overlay(key))
    except TwoninesError as exc:
        return Pictures(fault=str(exc))
    return Pictures(picture, overlay, golden)


async def _url(data: bytes, max_pixels: int) -> str:
    return await asyncio.to_thread(lambda: data_url(decode(data, max_pixels=max_pixels)))


def png_url(png: bytes) -> str:
    """A PNG of ours as JPEG inside the page; blocks."""
    with PILImage.open(io.BytesIO(png)) as opened:
        return data_url(np.asarray(opened.convert("RGB")))


def show_pictures(view: View, pictures: Pictures, name: str, height: str) -> None:
    """Side by side, as large as the row allows."""
    if pictures.fault:
        notice(pictures.fault)
    with ui.row().classes("w-full no-wrap items-start"):
        for key, source in (
            ("picture", pictures.picture),
            ("map_and_regions", pictures.overlay),
            ("reference", pictures.reference),
        ):
            if source:
                with ui.column().classes("col").style("min-width: 0"):
                    ui.label(view.t(key)).classes("muted")
                    shot(source, f"{view.t(key)}: {name}", f"width: 100%; height: {height}")


def show_facts(view: View, item: Recorded) -> None:
    """What is recorded of an inspection."""
    t, times = view.t, item.timings_ms
    facts(
        {
            t("time"): moment(item.time_us),
            t("line"): item.line,
            t("station"): item.station,
            t("lot"): item.lot,
            t("part_id"): item.part_id,
            t("file"): item.file,
            t("class"): item.defect_class,
            t("score"): "" if item.score is None else f"{item.score:.3f}",
            t("novelty"): "" if item.novelty is None else f"{item.novelty:.3f}",
            t("regions"): len(item.regions) or "",
            t("model"): f"{item.model_name} {item.model_version}",
            t("certificate"): item.certificate or t("none"),
            t("times_ms"): f"{times['total']:.1f}" if "total" in times else "",
        }
    )
    for reason in item.reasons:
        notice(reason)
    if item.error:
        notice(item.error, "bad")


def moment(time_us: int) -> str:
    """A time in UTC, to the second."""
    return f"{datetime.fromtimestamp(time_us / 1e6, UTC):%Y-%m-%d %H:%M:%S}"


def classes_of(item: Recorded, service: Service) -> list[str]:
    """The kinds of defect that a person may choose: those of the model that inspected."""
    known: dict[str, Any] = dict(item.class_scores)
    try:
        known |= dict.fromkeys(service.models.find_digest(item.model_digest).session.card.classes)
    except TwoninesError:  # it is not loaded any more; what it said is still known
        pass
    return [name for name in known if name != GOOD]
