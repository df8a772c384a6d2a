"""History: every inspection found again, by part, lot, place, verdict and time."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from nicegui import events, ui

from twonines.errors import SettingsError
from twonines.serving.console.drawing import Part
from twonines.serving.console.parts import SIGNS, facts, notice, panel, tile, told, verdict
from twonines.serving.console.recorded import (
    Pictures,
    ask,
    classes_of,
    load_pictures,
    moment,
    records_of,
    show_facts,
    show_pictures,
)
from twonines.serving.console.view import View
from twonines.serving.people.roles import Role
from twonines.serving.store.entries import Finding, Recorded, Review
from twonines.serving.store.findings import Report
from twonines.serving.store.query import Filters, Page

LIMIT = 12
_COUNTED = 1000
_FIELDS = ("part_id", "lot", "station", "defect_class")


async def build(view: View) -> None:
    """Show the page."""
    history = _History(view)
    history.filters = _filters(view.request.query_params)
    await history.build()


@dataclass(frozen=True, slots=True)
class _Detail:
    """All that is known of one inspection."""

    item: Recorded
    pictures: Pictures
    reviews: Sequence[Review]
    findings: Sequence[Finding]


class _History:
    """The page's state: the filters, the cursors of the pages seen, and the one looked at."""

    def __init__(self, view: View) -> None:
        self.view, self.t = view, view.t
        self.records = records_of(view)
        self.filters = Filters()
        self.cursors: list[str | None] = [None]
        self.page = Page((), None)
        self.chosen: str | None = None
        self.groups = Part(self.read_groups, self.draw_groups)
        self.table = Part(self.read_table, self.draw_table)
        self.detail = Part(self.read_detail, self.draw_detail)

    async def build(self) -> None:
        self.form()
        await self.groups.place()
        with ui.row().classes("w-full no-wrap items-start"):
            with ui.column().classes("col").style("min-width: 0"):
                await self.table.place()
            with ui.column().classes("col stick").style("min-width: 0"):
                await self.detail.place()

    def form(self) -> None:
        t, given = self.t, self.filters
        values: dict[str, Any] = {name: getattr(given, name) or "" for name in _FIELDS}
        with ui.row().classes("w-full items-center"):
            for name in _FIELDS:
                field = ui.input(t("class" if name == "defect_class" else name), value=values[name])
                field.bind_value(values, name).props(f"clearable data-mark=find-{name}").style(
                    "width: 8.6rem"
                ).on("keydown.enter", lambda: self.search(values))
            ui.select(
                {"": t("all"), "OK": "OK", "NG": "NG", "REVIEW": "REVIEW", "ERROR": "ERROR"},
                value="", label=t("verdict"),
            ).bind_value(values, "verdict").style("width: 7.5rem")  # fmt: skip
            ui.input(t("since")).bind_value(values, "since").props("type=date stack-label").style(
                "width: 10.5rem"
            )
            ui.button(t("search"), icon="search", on_click=lambda: self.search(values)).props(
                "data-mark=search"
            )

    async def search(self, values: dict[str, Any]) -> None:
        async def filter_by() -> None:
            since = values.get("since")
            self.filters = replace(
                _filters(values),
                verdict=values.get("verdict") or None,
                since_us=_day_us(since) if since else None,
            )
            self.cursors, self.chosen = [None], None

        if await told(self.view, filter_by()):
            self.refresh()

    def refresh(self) -> None:
        self.groups.refresh()
        self.table.refresh()
        self.detail.refresh()

    async def read_groups(self) -> tuple[Filters, Page] | None:
        given = self.filters
        if given.part_id is None and given.lot is None:
            return None
        return given, await ask(lambda: self.records.query(given, limit=_COUNTED))

    def draw_groups(self, found: tuple[Filters, Page] | None) -> None:
        """Of one part or lot: how often it got which verdict, and what persons decided."""
        if found is None:
            return
        given, page = found
        counts = Counter(item.verdict for item in page.items)
        decided = Counter(item.decision for item in page.items if item.decision)
        name = " · ".join(
            f"{self.t(key)} {value}"
            for key, value in (("part_id", given.part_id), ("lot", given.lot))
            if value
        )
        more = f" ({self.t('newest', count=_COUNTED)})" if page.cursor else ""
        with panel(name + more), ui.row().classes("w-full"):
            for value, icon in SIGNS.items():
                tile(value, str(counts[value]), icon, f"group-{value}")
            for value in ("OK", "NG"):
                tile(f"{self.t('decided')} {value}", str(decided[value]), "person", f"said-{value}")

    async def read_table(self) -> Page:
        given, cursor = self.filters, self.cursors[-1]
        return await ask(lambda: self.records.query(given, limit=LIMIT, cursor=cursor))

    def draw_table(self, page: Page) -> None:
        t, self.page = self.t, page
        if not self.page.items:
            notice(t("nothing_found"))
        for item in self.page.items:
            self.row(item)
        with ui.row().classes("w-full justify-center items-center"):
            newer = ui.button(t("newer"), icon="chevron_left", on_click=self.newer)
            newer.props("outline").set_enabled(len(self.cursors) > 1)
            older = ui.button(t("older"), icon="chevron_right", on_click=self.older)
            older.props("outline data-mark=older").set_enabled(self.page.cursor is not None)

    def row(self, item: Recorded) -> None:
        chosen = item.id == self.chosen
        with (
            ui.button(on_click=lambda: self.choose(item.id))
            .classes("w-full")
            .props(
                f"no-caps align=left {'unelevated color=blue-1' if chosen else 'flat'} "
                f"text-color=black data-row={item.id}"
            )
        ):
            with ui.row().classes("w-full items-center no-wrap"):
                with ui.element("span").style("width: 8.2rem; flex: none; text-align: left"):
                    verdict(self.view, item.verdict)
                with ui.column().classes("col gap-0 items-start").style("min-width: 0"):
                    ui.label(item.part_id or item.file or "–").classes("ellipsis").style(
                        "font-weight: 600; max-width: 100%"
                    )
                    place = " · ".join(filter(None, (item.lot, item.station, item.defect_class)))
                    ui.label(place or "–").classes("muted ellipsis").style("max-width: 100%")
                if item.decision:
                    ui.icon("person", size="22px").tooltip(self.t("decided"))
                    ui.label(item.decision).style("font-weight: 700")
                ui.label(moment(item.time_us)).classes("muted").style("flex: none")

    def choose(self, key: str) -> None:
        self.chosen = key
        self.table.refresh()
        self.detail.refresh()

    def newer(self) -> None:
        self.cursors.pop()
        self.table.refresh()

    def older(self) -> None:
        self.cursors.append(self.page.cursor)
        self.table.refresh()

    async def read_detail(self) -> _Detail | None:
        key = self.chosen
        if key is None:
            return None
        return _Detail(
            await ask(lambda: self.records.get(key)),
            await load_pictures(self.view.desk.service, key),
            await ask(lambda: self.records.reviews(key)),
            await ask(lambda: self.records.findings_of(key)),
        )

    def draw_detail(self, found: _Detail | None) -> None:
        if found is None:
            notice(self.t("choose_one"))
            return
        t, item = self.t, found.item
        with ui.element("section").classes("panel").props("data-mark=detail"):
            verdict(self.view, item.verdict, large=True)
            show_pictures(self.view, found.pictures, item.file or item.id, "32vh")
            show_facts(self.view, item)
            with ui.row():
                for name in ("part_id", "lot"):
                    value = getattr(item, name)
                    if value:
                        ui.button(
                            f"{t(name)}: {value}", icon="filter_alt",
                            on_click=lambda _, name=name, value=value: self.only(name, value),
                        ).props("outline")  # fmt: skip
            self.said(found)
            if self.view.may(Role.INSPECTOR):
                self.finding(item)

    def said(self, found: _Detail) -> None:
        t = self.t
        rows = {
            f"{t('review')} · {one.reviewer}": " · ".join(
                filter(None, (one.verdict, one.defect_class, one.note, moment(one.time_us)))
            )
            for one in found.reviews
        } | {
            f"{t('finding')} · {one.reporter} · {one.id[-6:]}": " · ".join(
                filter(None, (t(one.kind), one.defect_class, one.note, moment(one.time_us)))
            )
            for one in found.findings
        }
        if rows:
            facts(rows)

    def only(self, name: str, value: str) -> None:
        self.filters, self.cursors = _filters({name: value}), [None]
        self.refresh()

    def finding(self, item: Recorded) -> None:
        t = self.t
        kinds = {"escape": t("escape"), "overkill": t("overkill")}
        values: dict[str, Any] = {
            "kind": "overkill" if item.verdict == "NG" else "escape", "class": None, "note": "",
        }  # fmt: skip

        async def report(_: events.ClickEventArguments) -> None:
            escape = values["kind"] == "escape"
            made = Report(
                kind=values["kind"], inspection_id=item.id, note=values["note"] or "",
                defect_class=values["class"] if escape else None,
            )  # fmt: skip
            if await told(self.view, self.keep(made), "finding_kept"):
                self.detail.refresh()

        with (
            ui.expansion(t("report_finding"), icon="report")
            .classes("w-full")
            .props("data-mark=finding")
        ):
            ui.label(t("finding_why")).classes("muted")
            with ui.row().classes("w-full items-center"):
                ui.toggle(kinds).bind_value(values, "kind").props("no-caps")
                ui.select(
                    classes_of(item, self.view.desk.service), label=t("class"), clearable=True
                ).bind_value(values, "class").style("min-width: 10rem")
                ui.input(t("note")).bind_value(values, "note").props("data-mark=note")
                ui.button(t("report"), icon="send", on_click=report).props("data-mark=report")

    async def keep(self, made: Report) -> None:
        actor = self.view.person.actor
        kept = await ask(lambda: self.records.add_finding(made, reporter=actor))
        await self.view.desk.service.note_act(actor, "finding", kept.id, {"kind": kept.kind})


def _filters(values: Mapping[str, Any]) -> Filters:
    given = {name: (values.get(name) or "").strip() or None for name in _FIELDS}
    return Filters(
        part_id=given["part_id"], lot=given["lot"], station=given["station"],
        defect_class=given["defect_class"],
    )  # fmt: skip


def _day_us(text: str) -> int:
    try:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1e6)
    except ValueError as exc:
        raise SettingsError(f"since: must be a day as in 2026-01-31, got {text!r}") from exc
