"""Live: what is inspected now, how it goes, and whether all is well."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nicegui import ui

from twonines.errors import TwoninesError
from twonines.serving.console.drawing import Part
from twonines.serving.console.parts import SIGNS, notice, panel, tile, verdict
from twonines.serving.console.recorded import ask, moment, records_of
from twonines.serving.console.view import View
from twonines.serving.roster import Entry
from twonines.serving.service import Service
from twonines.serving.store.counting import MINUTE_US, Span
from twonines.serving.store.query import Filters, Page
from twonines.serving.store.records import Records

SPANS = {"hour": (60, 5), "shift": (480, 30), "day": (1440, 60), "week": (10080, 720)}
"""Minutes of a span, and of one step of its trend."""
_COLOURS = {"OK": "#1b6e35", "NG": "#b00020", "REVIEW": "#8a5a00", "ERROR": "#444444"}
_STREAM = 12


@dataclass(frozen=True, slots=True)
class _Step:
    """One step of the trend: verdicts, and what persons decided on them."""

    time_us: int
    counts: dict[str, int]
    decisions: dict[tuple[str, str], int]

    def share(self, said: str, decided: str) -> float | None:
        """Of the reviewed parts that the model called ``said``: in percent, ``decided``."""
        n = sum(count for (model, _), count in self.decisions.items() if model == said)
        return round(100 * self.decisions.get((said, decided), 0) / n, 2) if n else None

    @property
    def review_share(self) -> float | None:
        """REVIEW of all, in percent."""
        n = sum(self.counts.values())
        return round(100 * self.counts.get("REVIEW", 0) / n, 2) if n else None


async def build(view: View) -> None:
    """Show the page."""
    await _Live(view).build()


class _Live:
    """The page's state: the span, and the last count for the throughput."""

    def __init__(self, view: View) -> None:
        self.view, self.t = view, view.t
        self.service: Service = view.desk.service
        self.span = "hour"
        self.last = (time.monotonic(), _verdicts(self.service))
        self.rate = 0.0
        self.health = Part(self.read_health, self.draw_health)
        self.counters = Part(self.read_counters, self.draw_counters)
        self.trends = Part(self.read_trends, self.draw_trends)
        self.stream = Part(self.read_stream, self.draw_stream)

    async def build(self) -> None:
        t = self.t
        await self.health.place()
        await self.counters.place()
        if self.service.records is None:
            notice(t("no_records"))
        else:
            with ui.row().classes("w-full no-wrap items-stretch"):
                with ui.column().classes("col").style("min-width: 0"):
                    ui.toggle(
                        {name: t(f"span_{name}") for name in SPANS}, value=self.span,
                        on_change=lambda e: self.choose(str(e.value)),
                    ).props("no-caps")  # fmt: skip
                    await self.trends.place()
                with ui.column().style("width: 34rem; max-width: 44%; flex: none"):
                    await self.stream.place()
            ui.timer(15.0, self.trends.refresh)
        ui.timer(2.0, self.tick)

    def choose(self, name: str) -> None:
        self.span = name
        self.trends.refresh()
        self.counters.refresh()

    def tick(self) -> None:
        now, total = time.monotonic(), _verdicts(self.service)
        self.rate = (total - self.last[1]) / max(0.1, now - self.last[0])
        self.last = now, total
        self.health.refresh()
        self.counters.refresh()
        if self.service.records is not None:
            self.stream.refresh()

    async def read_health(self) -> list[Entry] | TwoninesError:
        try:
            return [entry for entry, _ in await self.service.models.listing() if entry.active]
        except TwoninesError as exc:
            return exc

    def draw_health(self, entries: list[Entry] | TwoninesError) -> None:
        t, service = self.t, self.service
        ready = service.repository is not None and service.models.ready and not service.draining
        with ui.row().classes("w-full no-wrap items-stretch").props("data-mark=health"):
            notice(t("is_ready") if ready else t("not_ready"), "good" if ready else "bad")
            if service.records is not None:
                fault = service.records.fault
                notice(fault or t("records_fine"), "bad" if fault else "good")
            if isinstance(entries, TwoninesError):
                notice(str(entries), "bad")
                return
            for entry in entries:
                loaded = entry.active
                certificate = loaded.certificate() if loaded else None
                if certificate is None:
                    notice(t("no_certificate", name=entry.name))
                    continue
                drift, limit = certificate["drift_evidence"], certificate["withdrawn_from"]
                state = (
                    t("certificate_holds", name=entry.name)
                    if certificate["valid"]
                    else f"{entry.name}: {t('void', why=certificate['fault'])}"
                )
                watch = (
                    "" if drift is None else t("drift", drift=f"{drift:.2g}", limit=f"{limit:g}")
                )
                notice(f"{state} {watch}", "good" if certificate["valid"] else "bad")

    async def read_counters(self) -> Mapping[str, int]:
        records, span = self.service.records, self.range()
        if records is None:
            return {name: int(_verdicts(self.service, name)) for name in SIGNS}
        return await ask(lambda: records.counts(span))

    def draw_counters(self, counts: Mapping[str, int]) -> None:
        t = self.t
        with ui.row().classes("w-full items-stretch"):
            for name, icon in SIGNS.items():
                tile(name, f"{counts.get(name, 0):,}", icon, f"live-{name}")
            total = sum(counts.values())
            share = f"{counts.get('REVIEW', 0) / total:.1%}" if total else "–"
            tile(t("metric_review"), share, "person_search", "live-rate")
            tile(t("per_second"), f"{self.rate:.1f}", "speed", "live-speed")

    def range(self) -> Span:
        now = time.time_ns() // 1000
        return Span(now - SPANS[self.span][0] * MINUTE_US, now + MINUTE_US)

    async def read_trends(self) -> list[_Step]:
        records, span, step_us = (
            records_of(self.view),
            self.range(),
            SPANS[self.span][1] * MINUTE_US,
        )
        return await ask(lambda: _steps(records, span, step_us))

    def draw_trends(self, steps: list[_Step]) -> None:
        t = self.t
        labels = [moment(step.time_us)[5:16] for step in steps]
        with panel(t("verdicts_over_time")):
            _chart(
                labels,
                [
                    {
                        "name": name, "type": "bar", "stack": "all",
                        "data": [step.counts.get(name, 0) for step in steps],
                        "itemStyle": {"color": colour},
                    }
                    for name, colour in _COLOURS.items()
                ],
            )  # fmt: skip
        with panel(t("rates_over_time")):
            rates = {
                t("metric_review"): ([step.review_share for step in steps], "#8a5a00", "diamond"),
                t("escapes_reviewed"): ([s.share("OK", "NG") for s in steps], "#b00020", "circle"),
                t("overkills_reviewed"): ([s.share("NG", "OK") for s in steps], "#1c4f9c", "rect"),
            }
            _chart(
                labels,
                [
                    {
                        "name": name, "type": "line", "data": values, "symbol": symbol,
                        "symbolSize": 12, "connectNulls": True, "itemStyle": {"color": colour},
                    }
                    for name, (values, colour, symbol) in rates.items()
                ],
            )  # fmt: skip

    async def read_stream(self) -> Page:
        records = records_of(self.view)
        return await ask(lambda: records.query(limit=_STREAM))

    def draw_stream(self, page: Page) -> None:
        with panel(self.t("stream")) as box:
            box.props("data-mark=stream")
            if not page.items:
                ui.label(self.t("nothing_found")).classes("muted")
            for item in page.items:
                with ui.row().classes("w-full items-center no-wrap q-py-xs"):
                    with ui.element("span").style("width: 8.2rem; flex: none"):
                        verdict(self.view, item.verdict)
                    ui.label(item.part_id or item.file or "–").classes("col ellipsis")
                    ui.label("" if item.score is None else f"{item.score:.3f}")
                    ui.label(moment(item.time_us)[11:]).classes("muted")


def _steps(records: Records, span: Span, step_us: int) -> list[_Step]:
    """Every step of the span, also those without an inspection: a stop of the line must show."""
    counts = {one.time_us: one.counts for one in records.trend(span, step_us)}
    first = span.since_us - span.since_us % step_us
    return [
        _Step(
            start,
            counts.get(start, {}),
            records.decisions(Filters(since_us=start, until_us=start + step_us)),
        )
        for start in range(first, span.until_us, step_us)
    ]


def _chart(labels: list[str], series: list[dict[str, Any]]) -> None:
    ui.echart(
        {
            "animation": False,
            "legend": {"top": 0, "textStyle": {"fontSize": 14}},
            "tooltip": {"trigger": "axis"},
            "grid": {"left": 8, "right": 16, "top": 40, "bottom": 4, "containLabel": True},
            "xAxis": {"type": "category", "data": labels, "axisLabel": {"fontSize": 13}},
            "yAxis": {"type": "value", "minInterval": 1, "axisLabel": {"fontSize": 13}},
            "series": series,
        }
    ).style("height: 230px").classes("w-full")


def _verdicts(service: Service, name: str | None = None) -> float:
    """Verdicts given since the service has started, of one kind or of all."""
    return sum(
        sample.value
        for metric in service.metrics.verdicts.collect()
        for sample in metric.samples
        if sample.name.endswith("_total") and name in (None, sample.labels["verdict"])
    )
