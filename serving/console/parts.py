"""Small parts that the pages share."""

import asyncio
import base64
import io
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nicegui import background_tasks, events, ui
from PIL import Image as PILImage

from twonines.errors import TwoninesError
from twonines.models.image import decode
from twonines.serving.console.view import View
from twonines.serving.console.works import Work
from twonines.types import Image

SIGNS = {"OK": "check_circle", "NG": "cancel", "REVIEW": "help", "ERROR": "error"}
FOLDER_MARK = "\u241f"
"""Stands between a folder's name and a file's, see console.js."""


def notice(text: str, kind: str = "") -> ui.row:
    """A line that stays; ``kind`` is "good", "bad" or neither, and has its icon."""
    icon = {"good": "check_circle", "bad": "error"}.get(kind, "info")
    with ui.row().classes(f"notice {kind} items-center no-wrap").props("role=status") as row:
        ui.icon(icon, size="28px")
        ui.label(text)
    return row


def verdict(view: View, value: str, large: bool = False) -> None:
    """A verdict as colour, icon and word."""
    with ui.element("span").classes(f"verdict {value}" + (" large" if large else "")):
        ui.icon(SIGNS[value])
        ui.label(f"{value} · {view.t('verdict_' + value)}" if large else value)


def facts(rows: Mapping[str, object]) -> None:
    """Names and values, one a line; what is empty is left out."""
    with ui.element("dl").classes("facts"):
        for name, value in rows.items():
            if value not in (None, ""):
                with ui.element("dt"):
                    ui.label(name)
                with ui.element("dd"):
                    ui.label(str(value))


def tile(name: str, value: str, icon: str, mark: str) -> None:
    """One large figure; ``mark`` is what tests find it by."""
    with ui.element("div").classes("tile"):
        with ui.element("div").classes("name"):
            ui.icon(icon, size="24px")
            ui.label(name)
        ui.label(value).classes("value").mark(mark).props(f"data-mark={mark}")


@contextmanager
def panel(title: str | Callable[[], object]) -> Iterator[ui.element]:
    """A box with a heading: its words, or what draws them where they change."""
    with ui.element("section").classes("panel") as box:
        with ui.element("h2"):
            if callable(title):
                title()
            else:
                ui.label(title)
        yield box


def fail(exc: TwoninesError) -> None:
    """Show an error in its own words, until it is closed or read."""
    ui.notify(str(exc), type="negative", multi_line=True, timeout=10_000, close_button=True)


async def told(view: View, action: Awaitable[Any], done: str = "") -> bool:
    """Do it, and say what came of it; an error of ours is shown in its own words."""
    with ui.context.client:  # what was pressed may be drawn anew meanwhile
        try:
            await action
        except TwoninesError as exc:
            fail(exc)
            return False
        if done:
            ui.notify(view.t(done), type="positive")
    return True


def choice(label: str, options: list[str]) -> ui.select:
    """One of several, the last at first."""
    return ui.select(options, value=options[-1], label=label).style("min-width: 14rem")


def dialog() -> ui.dialog:
    """One that stays when the part of the page that opened it is drawn anew."""
    with ui.context.client.content:
        return ui.dialog(value=True)


async def confirmed(view: View, question: str) -> bool:
    """Ask before something that many will notice."""
    with dialog() as asked, ui.card().style("max-width: 40rem"):
        ui.label(question).style("font-size: 19px")
        with ui.row().classes("w-full justify-end"):
            ui.button(view.t("cancel"), on_click=lambda: asked.submit(False)).props("outline")
            ui.button(view.t("go_on"), icon="check", on_click=lambda: asked.submit(True)).props(
                "data-mark=confirm"
            )
    return bool(await asked)


def data_url(image: Image, side: int = 1400) -> str:
    """A picture as JPEG inside the page: (H, W, 3) uint8 RGB, no side longer than ``side``."""
    picture = PILImage.fromarray(image)
    picture.thumbnail((side, side))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def shot(source: str, name: str, size: str = "width: 100%; max-height: 56vh") -> ui.element:
    """A picture with its name for those who cannot see it."""
    image = ui.element("img").classes("shot").style(size)
    image.props["src"], image.props["alt"] = source, name
    return image


def small_shot(path: Path, name: str, size: str, side: int = 220) -> ui.element:
    """A picture of a file, small; it comes when a thread has decoded it, or not at all."""
    image = ui.element("img").classes("shot").style(size)
    image.props["alt"] = name

    async def fill() -> None:
        source = await asyncio.to_thread(_thumbnail, path, side)
        if not image.is_deleted:
            image.props["src"] = source
            image.update()

    background_tasks.create(fill())
    return image


def _thumbnail(path: Path, side: int) -> str:
    """A small picture as data URL, "" where it cannot be read; blocks for milliseconds."""
    try:
        return data_url(decode(path.read_bytes()), side)
    except (OSError, TwoninesError):
        return ""


def pictures_row(paths: Sequence[Path], size: str = "width: 96px; height: 96px") -> None:
    """Small pictures side by side, each with its name."""
    with ui.row().classes("gap-1"):
        for path in paths:
            small_shot(path, path.name, size).tooltip(path.name)


def work_panel(view: View, work: Work, stages: Sequence[str]) -> None:
    """How far a command has come: its stages ticked off, its time, and how it ended."""
    t = view.t
    said = [line.removesuffix(" ...") for line in work.lines if line.endswith(" ...")]
    with ui.row().classes("w-full items-center").props(f"data-mark=work-{work.kind}"):
        ui.label(f"{work.title} · {t('seconds', seconds=f'{work.seconds:.0f}')}")
        for stage in dict.fromkeys((*stages, *said)):
            if stage in said:
                ended = not work.running or said[-1] != stage
                with ui.row().classes("items-center gap-1 no-wrap"):
                    ui.icon("task_alt" if ended else "hourglass_top", size="26px")
                    ui.label(t.of(f"step_{stage}") or stage)
    if work.running:
        done = len([stage for stage in stages if stage in said])
        ui.linear_progress(done / (len(stages) + 1), show_value=False, size="14px").props(
            "animated"
        )
    elif work.code == 0:
        notice(t("work_done", seconds=f"{work.seconds:.0f}"), "good")
    else:
        notice(work.error, "bad")
        with ui.expansion(t("whole_output"), icon="subject").classes("w-full"):
            ui.label("\n".join(work.lines)).classes("lines")


_REJECTED = "files => emit(files.map(one => one.file.name))"
Taken = Callable[[str, str, bytes], Awaitable[None]]
"""(name of the folder that the file came in or "", name of the file, its bytes)."""


def drop_zone(view: View, text: str, taken: Taken, mark: str) -> ui.element:
    """Where pictures and folders are dropped, or chosen; ``taken`` is called for each file."""
    limit, client = view.desk.service.settings.max_bytes, ui.context.client

    async def receive(event: events.UploadEventArguments) -> None:
        folder, _, name = event.file.name.rpartition(FOLDER_MARK)
        # A browser refuses it before it is sent; what is sent otherwise is measured here.
        data = await event.file.read() if event.file.size() <= limit else None
        with client:  # the zone may be drawn anew meanwhile
            if data is None:
                refuse(name)
            else:
                await taken(folder, name, data)
        if not uploader.is_deleted:
            uploader.run_method("removeUploadedFiles")

    def reject(event: events.GenericEventArguments) -> None:
        for name in event.args:
            refuse(str(name).rpartition(FOLDER_MARK)[2])

    def refuse(name: str) -> None:
        ui.notify(view.t("too_large", name=name, limit=f"{limit / 2**20:.0f}"), type="negative")

    with ui.element("div").classes("drop").props(f"data-mark={mark}") as zone:
        ui.icon("add_photo_alternate")
        ui.label(text).style("font-weight: 700; font-size: 19px")
        uploader = ui.upload(
            multiple=True, auto_upload=True, on_upload=receive, max_file_size=limit
        )
        uploader.on("rejected", reject, js_handler=_REJECTED)
        with ui.row().classes("justify-center"):
            for key, icon, folder in (
                ("choose_pictures", "image", "false"), ("choose_folder", "folder", "true"),
            ):  # fmt: skip
                ui.button(view.t(key), icon=icon).props("outline").on(
                    "click", js_handler=f"() => twonines.pick({uploader.id}, {folder})"
                )
    zone.on(
        "dragover", js_handler="e => { e.preventDefault(); e.currentTarget.classList.add('over') }"
    )
    zone.on("dragleave", js_handler="e => e.currentTarget.classList.remove('over')")
    zone.on("drop", js_handler=f"e => twonines.drop(e, {uploader.id})")
    return zone
