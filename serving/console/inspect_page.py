"""Inspect: drop pictures, see verdict, map, regions, reference, reasons and times."""

import asyncio
from collections import Counter

from nicegui import events, ui

from twonines.serving.console.inspecting import Seen, inspect
from twonines.serving.console.parts import (
    SIGNS,
    drop_zone,
    facts,
    notice,
    panel,
    shot,
    tile,
    verdict,
)
from twonines.serving.console.view import View
from twonines.serving.intake import Picture, Upload

KEPT = 60
"""Pictures that stay on the page; older ones make room."""
_STAGES = ("decode", "resize", "queue", "compute", "decision", "request")


async def build(view: View) -> None:
    """Show the page."""
    names = [entry.name for entry, _ in await view.desk.service.models.listing() if entry.active]
    if not names:
        notice(view.t("no_model"), "bad")
        return
    _Inspect(view, names).build()


class _Inspect:
    """The page's state: what was inspected, and which one is looked at."""

    def __init__(self, view: View, names: list[str]) -> None:
        self.view, self.t = view, view.t
        self.names = names
        self.model = view.desk.service.models.default_name() or names[0]
        self.fields = {"station": "", "lot": "", "part_id": ""}
        self.stored: str | None = None
        self.golden: Picture | None = None
        self.seen: list[Seen] = []
        self.counts: Counter[str] = Counter()
        self.chosen = 0
        # A browser sends several files at once; verdicts stand in the order in which they came.
        self.turn = asyncio.Lock()

    def build(self) -> None:
        self.setup()
        with ui.row().classes("w-full no-wrap items-stretch"):
            with ui.column().style("flex: 0 1 30rem"):
                drop_zone(self.view, self.t("drop_pictures"), self.take, "drop")
            with ui.column().classes("col"):
                self.tiles()
        self.current()
        self.strip()
        ui.keyboard(self.key, repeating=False)

    @ui.refreshable_method
    def setup(self) -> None:
        loaded = self.view.desk.service.models.find(self.model)
        with ui.row().classes("w-full items-center"):
            if len(self.names) > 1:
                ui.select(self.names, value=self.model, label=self.t("model")).on_value_change(
                    self.choose_model
                ).style("min-width: 14rem")
            else:
                ui.label(f"{self.t('model')}: {loaded.name} {loaded.version}")
            for name in self.fields:
                ui.input(self.t(name)).bind_value(self.fields, name).props(
                    f"maxlength=200 data-mark={name}"
                ).style("width: 12rem")
            if loaded.session.card.reference:
                ids = loaded.references.ids() if loaded.references else []
                if ids:
                    ui.select(
                        ids, label=self.t("stored_reference"), clearable=True, value=self.stored
                    ).on_value_change(self.choose_stored).style("min-width: 14rem")
        if loaded.session.card.reference:
            drop_zone(self.view, self.t("drop_reference"), self.take_reference, "golden")
            if self.golden:
                notice(self.t("reference_is", name=self.golden.name), "good")
            elif not self.stored:
                notice(self.t("reference_wanted"))

    def choose_model(self, event: events.ValueChangeEventArguments[str]) -> None:
        self.model, self.stored, self.golden = str(event.value), None, None
        self.setup.refresh()

    def choose_stored(self, event: events.ValueChangeEventArguments[str]) -> None:
        self.stored, self.golden = event.value, None
        self.setup.refresh()

    async def take_reference(self, _: str, name: str, data: bytes) -> None:
        self.golden, self.stored = Picture(name, data), None
        self.setup.refresh()

    async def take(self, _: str, name: str, data: bytes) -> None:
        fields = {key: text for key, text in self.fields.items() if text}
        if self.stored:
            fields["reference_id"] = self.stored
        async with self.turn:
            upload = Upload([Picture(name, data)], fields, self.golden)
            found = await inspect(self.view.desk.service, self.view.person, upload, self.model)
        self.seen = [found, *self.seen][:KEPT]
        self.counts[found.result["verdict"]] += 1
        self.chosen = 0
        self.refresh()

    def refresh(self) -> None:
        self.tiles.refresh()
        self.current.refresh()
        self.strip.refresh()

    @ui.refreshable_method
    def tiles(self) -> None:
        with ui.row().classes("w-full h-full items-stretch"):
            for name, icon in SIGNS.items():
                tile(name, str(self.counts[name]), icon, f"count-{name}")

    @ui.refreshable_method
    def current(self) -> None:
        if not self.seen:
            return
        item = self.seen[self.chosen]
        result = item.result
        pictures = [
            (self.t("picture"), item.picture),
            (self.t("map_and_regions"), item.overlay),
            (self.t("reference"), item.reference),
        ]
        with (
            ui.element("section").classes("panel").props("data-mark=result"),
            ui.row().classes("w-full no-wrap items-start"),
        ):
            for name, source in pictures:
                if source:
                    with ui.column().classes("col").style("min-width: 0"):
                        ui.label(name).classes("muted")
                        shot(source, f"{name}: {item.name}", "width: 100%; height: 46vh")
            with ui.column().style("width: 24rem; flex: none"):
                verdict(self.view, result["verdict"], large=True)
                facts(self.rows(item))
                for reason in result["reasons"]:
                    notice(reason)
                if result.get("error"):
                    notice(result["error"]["message"], "bad")

    def rows(self, item: Seen) -> dict[str, object]:
        result, t = item.result, self.t
        times = ", ".join(
            f"{t('stage_' + name)} {item.timings_ms[name]:.1f}"
            for name in _STAGES
            if name in item.timings_ms
        )
        return {
            t("file"): item.name,
            t("class"): result.get("class"),
            t("score"): _figure(result.get("score")),
            t("novelty"): _figure(result.get("novelty")),
            t("regions"): len(result.get("regions", [])) or "",
            t("certificate"): (result.get("certificate") or "")[:16] or t("none"),
            t("model"): item.model,
            t("times_ms"): times,
        }

    @ui.refreshable_method
    def strip(self) -> None:
        if len(self.seen) < 2:
            return
        with panel(self.t("inspected", kept=KEPT)), ui.row():
            for index, item in enumerate(self.seen):
                with (
                    ui.button()
                    .props("flat padding=none")
                    .classes("thumb" + (" chosen" if index == self.chosen else "")) as button
                ):
                    with ui.column().classes("items-center gap-0"):
                        shot(item.overlay or item.picture, item.name, "width: 120px; height: 88px")
                        verdict(self.view, item.result["verdict"])
                button.on_click(lambda _, index=index: self.choose(index))

    def choose(self, index: int) -> None:
        self.chosen = min(max(index, 0), len(self.seen) - 1)
        self.current.refresh()
        self.strip.refresh()

    def key(self, event: events.KeyEventArguments) -> None:
        if event.action.keydown and self.seen:
            if event.key.arrow_right:
                self.choose(self.chosen + 1)
            elif event.key.arrow_left:
                self.choose(self.chosen - 1)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
