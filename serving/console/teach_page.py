"""Teach: pictures of each class, a model in under a minute, compared with what answers now."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nicegui import ui

from twonines.errors import TwoninesError
from twonines.models.inspector import Inspector
from twonines.models.session import InspectionSession
from twonines.serving.changes import Changes, Outcome
from twonines.serving.console import cards, sets
from twonines.serving.console.changing import make_change
from twonines.serving.console.comparing import Tally, judge, read_cases
from twonines.serving.console.drawing import Part
from twonines.serving.console.parts import (
    confirmed,
    drop_zone,
    notice,
    panel,
    pictures_row,
    told,
    work_panel,
)  # fmt: skip
from twonines.serving.console.view import View
from twonines.serving.console.works import Work
from twonines.types import GOOD, Verdict

KIND = "teach"
STAGES = ("backbone", "features", "calibration", "parity")
"""What a run of the recipe tells, in order; its tasks leave some out."""
_SHOWN = 8


async def build(view: View) -> None:
    """Show the page."""
    root = view.desk.folder("sets")
    await _Teach(view, root).build()


@dataclass(frozen=True, slots=True)
class _Run:
    """The last run; where it has taught a model, that model's card and who may be replaced.

    ``ready`` says whether the set that is chosen can be taught from.
    """

    work: Work | None
    ready: bool
    told: cards.Told | None = None
    names: tuple[str, ...] = ()


class _Teach:
    """The page's state: the set that is filled, and the run that taught from it."""

    def __init__(self, view: View, root: Path) -> None:
        self.view, self.t, self.root = view, view.t, root
        names = sets.list_sets(root)
        self.name = names[0] if names else ""
        self.set: sets.PictureSet | None = None
        self.tallies: dict[str, Tally] = {}
        self.fault = ""
        self.drawn: list[str] = []
        self.run = Part(self.read_run, self.draw_run)

    async def build(self) -> None:
        self.head()
        await self.look()
        self.classes()
        await self.run.place()
        work = self.view.desk.works.last(KIND)
        self.was_running = bool(work and work.running)
        ui.timer(0.5, self.follow)

    async def look(self) -> None:
        """Read the chosen set's folders anew; a set that has gone is not chosen any more."""
        try:
            self.set = await asyncio.to_thread(sets.open_set, self.root, self.name)
        except TwoninesError:
            self.set = None

    @property
    def pictures(self) -> dict[str, list[Path]]:
        """Those of each class, as last read."""
        return {} if self.set is None else self.set.classes

    @ui.refreshable_method
    def head(self) -> None:
        t = self.t
        with ui.row().classes("w-full items-center"):
            names = sets.list_sets(self.root)
            if names:
                ui.select(names, value=self.name or None, label=t("set")).on_value_change(
                    lambda e: self.choose(str(e.value))
                ).style("min-width: 16rem")
            new = ui.input(t("new_set")).props("maxlength=80 data-mark=new-set")
            make = ui.button(t("make"), icon="add", on_click=lambda: self.make(str(new.value)))
            make.props("outline data-mark=make-set")

    async def choose(self, name: str) -> None:
        self.name, self.tallies, self.fault = name, {}, ""
        await self.look()
        self.head.refresh()
        self.classes.refresh()
        self.run.refresh()

    async def make(self, name: str) -> None:
        async def made() -> None:
            await self.choose(sets.make_set(self.root, name))

        await told(self.view, made(), "done")

    @ui.refreshable_method
    def classes(self) -> None:
        """Show the chosen set.

        Its zones stay as pictures come: one drawn anew while a browser chooses or sends files
        loses them.
        """
        if self.set is None:
            notice(self.t("make_set_first"))
            return
        t = self.t
        with panel(self.heading):
            self.row, self.drawn = ui.row().classes("w-full items-stretch"), []
            self.draw_classes()
            with ui.row().classes("w-full items-center q-mt-md"):
                new = ui.input(t("new_class")).props("maxlength=80 data-mark=new-class")
                ui.button(t("add_class"), icon="add", on_click=lambda: self.add_class(new)).props(
                    "outline data-mark=add-class"
                )
                ui.label(t("or_folders")).classes("muted")

    @ui.refreshable_method
    def heading(self) -> None:
        if self.set is not None:
            ui.label(self.t("classes_of", name=self.set.name, count=self.set.pictures))

    def draw_classes(self) -> None:
        """Add the classes that are not there yet; they may come from another window too.

        One whose folder was taken away meanwhile stays, and begins anew with the next picture.
        """
        for name in self.pictures:
            if name not in self.drawn:
                self.drawn.append(name)
                self.one_class(name)

    def one_class(self, name: str) -> None:
        with self.row, ui.column().style("flex: 1 1 300px; min-width: 280px"):
            with ui.row().classes("items-center gap-2"):
                ui.icon("check_circle" if name == GOOD else "report", size="26px")
                self.count(name)
            mark = f"class-{re.sub(r'[^A-Za-z0-9]', '-', name)}"
            drop_zone(self.view, self.t("drop_class", name=name), self.taking(name), mark)
            self.newest(name)

    @ui.refreshable_method
    def count(self, name: str) -> None:
        count = self.t("count", count=len(self.pictures.get(name, ())))
        ui.label(f"{name}: {count}").style("font-weight: 700; font-size: 19px")

    @ui.refreshable_method
    def newest(self, name: str) -> None:
        pictures_row(self.pictures.get(name, [])[-_SHOWN:])

    def taking(self, name: str) -> Any:
        pending: list[asyncio.Task[None]] = []
        set_name = self.name  # another may be chosen while files still come

        async def show_soon() -> None:
            await asyncio.sleep(0.4)  # many files come one after the other
            await self.look()
            if self.set is None:
                self.classes.refresh()
            else:
                self.draw_classes()
            for shown in (self.heading, self.count, self.newest, self.run):
                shown.refresh()

        async def take(folder: str, file: str, data: bytes) -> None:
            limit = self.view.desk.service.settings.max_pixels

            def keep() -> None:
                chosen = sets.open_set(self.root, set_name)
                # A whole set may be dropped anywhere: its folders are its classes.
                put_in = folder if folder in chosen.classes else name
                sets.add_picture(chosen, put_in, file, data, limit)

            try:
                await asyncio.to_thread(keep)
            except TwoninesError as exc:
                ui.notify(f"{file}: {exc}", type="negative")
                return
            for task in pending:
                task.cancel()
            pending[:] = [asyncio.create_task(show_soon())]

        return take

    async def add_class(self, new: ui.input) -> None:
        async def add() -> None:
            if self.set is not None:
                sets.add_class(self.set, str(new.value))
                await self.look()

        if await told(self.view, add()):
            new.value = ""
            self.draw_classes()

    async def read_run(self) -> _Run:
        work = self.view.desk.works.last(KIND)
        filled = [name for name, paths in self.pictures.items() if paths]
        ready = len(filled) > 1 or filled == [GOOD]
        if work is None or work.code != 0:
            return _Run(work, ready)
        told = await asyncio.to_thread(cards.read, self.folder(work) / "model.onnx")
        names = tuple(sorted(await self.view.desk.service.models.files()))
        return _Run(work, ready, told, names)

    def draw_run(self, last: _Run) -> None:
        if self.set is None:
            return
        t, work = self.t, last.work
        with panel(t("teach")):
            with ui.row().classes("w-full items-center"):
                button = ui.button(t("teach_now"), icon="school", on_click=self.start)
                button.props("data-mark=teach").set_enabled(
                    last.ready and not (work and work.running)
                )
                if not last.ready:
                    ui.label(t("teach_needs")).classes("muted")
            if work:
                work_panel(self.view, work, STAGES)
            if work and last.told:
                self.result(work, last.told, last.names)

    async def start(self) -> None:
        out = self.view.desk.folder("runs") / f"{self.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        self.tallies, self.fault = {}, ""
        await told(
            self.view,
            self.view.desk.works.start(
                KIND, out.name, "train", "--dataset", "folder", "--root",
                str(self.root / self.name), "--out", str(out),
            ),
        )  # fmt: skip
        self.was_running = True
        self.run.refresh()

    def follow(self) -> None:
        work = self.view.desk.works.last(KIND)
        running = bool(work and work.running)
        if running or self.was_running:
            self.run.refresh()
        self.was_running = running

    def folder(self, work: Work) -> Path:
        return self.view.desk.folder("runs") / work.title

    def result(self, work: Work, found: cards.Told, names: Sequence[str]) -> None:
        t, model = self.t, self.folder(work) / "model.onnx"
        for name in cards.MAIN:
            if name in found.card.metrics:
                ui.label(f"{cards.metric_name(name, t)} {cards.figure(found.card.metrics[name])}")
        with ui.row().classes("w-full items-center"):
            ui.button(
                t("compare_active"), icon="compare_arrows", on_click=lambda: self.compare(work)
            ).props("outline data-mark=compare-active")
            chosen = ui.input(t("as_model"), value=names[0], autocomplete=list(names))
            chosen.props("maxlength=100 data-mark=as-model")
            ui.button(
                t("activate"), icon="play_arrow",
                on_click=lambda: self.activate(model, str(chosen.value)),
            ).props("data-mark=activate-taught")  # fmt: skip
        if self.fault:
            notice(self.fault, "bad")
        if self.tallies:
            _tallies(self.view, self.tallies)

    async def compare(self, work: Work) -> None:
        folder, service = self.folder(work), self.view.desk.service
        limit = service.settings.max_pixels
        notice_task = ui.notification(self.t("comparing"), spinner=True, timeout=None)
        try:
            name = work.title.rsplit("-", 2)[0]
            cases = read_cases(folder / "metrics.json", self.root / name)
            session = await asyncio.to_thread(InspectionSession.load, folder / "model.onnx")
            fresh = await asyncio.to_thread(judge, Inspector(session), cases, limit)
            with service.models.lease() as active:
                there = await asyncio.to_thread(judge, active.make_inspector(), cases, limit)
                title = f"{active.name} {active.version}"
            self.tallies, self.fault = {self.t("taught_now"): fresh, title: there}, ""
        except TwoninesError as exc:
            self.tallies, self.fault = {}, str(exc)
        notice_task.dismiss()
        self.run.refresh()

    async def activate(self, model: Path, name: str) -> None:
        changes, person = Changes(self.view.desk.service), self.view.person
        added = ""

        async def change(why: str | None) -> Outcome:
            nonlocal added
            if not added:  # where a reason is asked for, it is the same version that is tried again
                added = await changes.add(person, name, model)
            return await changes.change(person, name, added, "activate", why)

        with ui.context.client:  # the button may be drawn anew meanwhile
            if await confirmed(self.view, self.t("activate_taught_sure", name=name)):
                await make_change(self.view, change)


def _tallies(view: View, tallies: dict[str, Tally]) -> None:
    t = view.t

    def share(count: int, n: int) -> str:
        return f"{count / n:.1%} ({count}/{n})" if n else "–"

    rows = []
    for name, one in tallies.items():
        right = one.good[Verdict.OK] + one.defective[Verdict.NG]
        n = one.n_good + one.n_defective
        review = one.good[Verdict.REVIEW] + one.defective[Verdict.REVIEW]
        rows.append(
            {
                "model": name,
                "right": share(right, n),
                "escape": share(one.defective[Verdict.OK], one.n_defective),
                "overkill": share(one.good[Verdict.NG], one.n_good),
                "review": share(review, n),
            }
        )
    names = {
        "model": t("model"), "right": t("metric_accuracy"), "escape": t("metric_escape_rate"),
        "overkill": t("metric_overkill_rate"), "review": t("metric_review"),
    }  # fmt: skip
    ui.table(
        columns=[{"name": k, "label": v, "field": k, "align": "left"} for k, v in names.items()],
        rows=rows,
        row_key="model",
    ).classes("w-full").props("flat data-mark=tallies")
    for name, one in tallies.items():
        if one.escaped:
            ui.label(t("escaped_of", name=name)).classes("muted")
            pictures_row(list(one.escaped)[:_SHOWN])
