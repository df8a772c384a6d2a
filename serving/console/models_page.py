"""Models: cards and certificates, two compared, and what answers."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nicegui import events, ui

from twonines.errors import TwoninesError
from twonines.serving.changes import Change as Verb
from twonines.serving.changes import Changes
from twonines.serving.console import cards
from twonines.serving.console.changing import Change, make_change, read_proposals, show_proposals
from twonines.serving.console.drawing import Part
from twonines.serving.console.parts import confirmed, dialog, facts, notice, panel
from twonines.serving.console.view import View
from twonines.serving.people.approvals import Approval
from twonines.serving.people.roles import Role
from twonines.serving.roster import Entry

STATES = {
    "active": "check_circle", "shadow": "visibility", "loaded": "memory",
    "available": "inventory_2", "draining": "hourglass_empty", "failed": "error",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Shelf:
    """What the page shows: the models with their versions, and the cards of the chosen one."""

    listing: list[tuple[Entry, list[str]]]
    name: str | None
    told: dict[str, cards.Told]
    proposals: list[Approval]


async def build(view: View) -> None:
    """Show the page."""
    models = _Models(view)
    await models.show.place()
    ui.timer(1.0, models.follow)  # what has changed by itself, or through others


class _Models:
    """The page's state: which model is looked at, and which versions are compared."""

    def __init__(self, view: View) -> None:
        self.view, self.t = view, view.t
        self.models = view.desk.service.models
        self.changes = Changes(view.desk.service)
        self.name = self.models.default_name()
        self.pair: list[str] = []
        self.told: dict[str, cards.Told] = {}
        self.show = Part(self._read, self._draw, _seen)

    def follow(self) -> None:
        """Show what has changed, and how far the shadow has come."""
        self.show.refresh()
        self._shadow.refresh()

    async def _read(self) -> _Shelf:
        listing = await self.models.listing()
        names = [entry.name for entry, _ in listing]
        name = self.name if self.name in names else next(iter(names), None)
        files = (await self.models.files()).get(name or "", {})
        told = await asyncio.to_thread(_read_cards, files)
        return _Shelf(listing, name, told, await read_proposals(self.view))

    def _draw(self, shelf: _Shelf) -> None:
        listing = {entry.name: (entry, versions) for entry, versions in shelf.listing}
        if shelf.name is None:
            notice(self.t("no_model"), "bad")
            return
        self.name, self.told = shelf.name, shelf.told
        entry, versions = listing[shelf.name]
        self._head(list(listing), entry)
        show_proposals(self.view, shelf.proposals, self.show.refresh)
        for version in reversed(versions):
            self._version(entry, version)
        self._shadow(entry)
        self._compare(versions)

    def _head(self, names: list[str], entry: Entry) -> None:
        t, history = self.t, entry.record.history
        with ui.row().classes("w-full items-center"):
            if len(names) > 1:
                ui.select(names, value=self.name, label=t("model")).on_value_change(
                    self._choose
                ).style("min-width: 16rem")
            else:
                ui.label(f"{t('model')}: {self.name}").style("font-size: 20px; font-weight: 700")
            ui.space()
            if history and self.view.may(Role.ENGINEER):
                person, changes = self.view.person, self.changes
                self._button(
                    t("roll_back", version=history[-1]), "undo",
                    t("roll_back_sure", name=entry.name, version=history[-1]),
                    lambda why: changes.rollback(person, entry.name, why), "rollback",
                )  # fmt: skip

    def _choose(self, event: events.ValueChangeEventArguments[str]) -> None:
        self.name, self.pair = str(event.value), []
        self.show.refresh()

    def _version(self, entry: Entry, version: str) -> None:
        t, state = self.t, entry.state(version)
        with (
            ui.element("section").classes("panel").props(f"data-version={version}"),
            ui.row().classes("w-full items-center no-wrap"),
        ):
            with ui.column().classes("gap-1").style("width: 11rem; flex: none"):
                ui.label(f"{t('version')} {version}").style("font-size: 20px; font-weight: 700")
                with ui.row().classes("items-center gap-1 no-wrap"):
                    ui.icon(STATES[state], size="26px")
                    ui.label(t(f"state_{state}")).style("font-weight: 600")
            with ui.column().classes("col gap-1"):
                self._summary(entry, version)
            with ui.row().classes("justify-end").style("max-width: 24rem"):
                self._actions(entry, version, state)

    def _summary(self, entry: Entry, version: str) -> None:
        t, found = self.t, self.told.get(version)
        if version in entry.errors:
            notice(entry.errors[version], "bad")
        if found is None:
            notice(t("no_card"), "bad")
            return
        metrics = found.card.metrics
        shown = [
            f"{cards.metric_name(n, t)} {cards.figure(metrics[n])}"
            for n in cards.MAIN
            if n in metrics
        ]
        ui.label(" · ".join(shown) or t("not_measured"))
        certificate = _certified(entry, version)
        if found.card.certificate is None:
            ui.label(f"{t('certificate')}: {t('none')}").classes("muted")
        elif certificate is None:
            ui.label(f"{t('certificate')}: {found.card.certificate.statement}")
        else:
            fine = certificate["valid"]
            with ui.row().classes("items-center gap-1 no-wrap"):
                ui.icon("verified" if fine else "gpp_bad", size="26px")
                state = t("holds") if fine else t("void", why=certificate["fault"])
                ui.label(f"{t('certificate')} {state}: {certificate['statement']}")

    def _actions(self, entry: Entry, version: str, state: str) -> None:
        t, name = self.t, entry.name
        ui.button(t("card"), icon="badge", on_click=lambda: self._card(version)).props("outline")
        if not self.view.may(Role.ENGINEER):
            return
        if state in ("available", "loaded", "shadow", "failed"):
            sure = t("activate_sure", name=name, version=version)
            self._verb("activate", "play_arrow", version, sure)
        if state in ("available", "loaded"):
            self._verb("shadow", "visibility", version)
        if state in ("loaded", "shadow"):
            self._verb("unload", "eject", version)

    def _verb(self, verb: Verb, icon: str, version: str, sure: str = "") -> None:
        person, changes, name = self.view.person, self.changes, str(self.name)
        self._button(
            self.t(verb), icon, sure, lambda why: changes.change(person, name, version, verb, why),
            f"{verb}-{version}", "" if sure else "outline",
        )  # fmt: skip

    def _button(
        self, text: str, icon: str, sure: str, change: Change, mark: str, props: str = ""
    ) -> None:
        async def press() -> None:
            with ui.context.client:  # the button may be drawn anew meanwhile
                if not sure or await confirmed(self.view, sure):
                    await make_change(self.view, change)
                    self.show.refresh()

        ui.button(text, icon=icon, on_click=press).props(f"{props} data-mark={mark}")

    def _card(self, version: str) -> None:
        with dialog() as opened, ui.card().style("min-width: 60vw; max-width: 95vw"):
            ui.label(f"{self.name} {version}").classes("title")
            if version in self.told:
                facts(cards.rows(self.told[version], self.t))
            ui.button(self.t("close"), icon="close", on_click=opened.close)

    @ui.refreshable_method
    def _shadow(self, entry: Entry) -> None:
        if entry.shadow is None:
            return
        t, report = self.t, entry.shadow.report()
        with panel(t("shadow_of", shadow=report["version"], active=str(entry.record.active))):
            counts = report["counts"]
            facts(
                {
                    t("compared"): report["compared"],
                    **{t(f"shadow_{kind}"): count for kind, count in counts.items()},
                    t("score_shift"): f"{report['mean_score_shift']:.3f} / "
                    f"{report['max_score_shift']:.3f}",
                }
            )

    def _compare(self, versions: list[str]) -> None:
        readable = [version for version in versions if version in self.told]
        if len(readable) < 2:
            return
        self.pair = [v for v in self.pair if v in readable] or readable[-2:]
        with panel(self.t("compare_two")):
            with ui.row():
                for place in (0, 1):
                    ui.select(
                        readable, value=self.pair[place], label=f"{self.t('version')} {place + 1}"
                    ).on_value_change(lambda e, place=place: self._pick(place, e.value)).style(
                        "min-width: 10rem"
                    )
            self._table()

    def _pick(self, place: int, version: str) -> None:
        self.pair[place] = version
        self._table.refresh()

    @ui.refreshable_method
    def _table(self) -> None:
        first, second = (cards.rows(self.told[version], self.t) for version in self.pair)
        names = list(first) + [name for name in second if name not in first]
        marks = {True: "=", False: "≠"}
        ui.table(
            columns=[
                {"name": "what", "label": "", "field": "what", "align": "left"},
                {"name": "a", "label": self.pair[0], "field": "a", "align": "left"},
                {"name": "same", "label": "", "field": "same", "align": "center"},
                {"name": "b", "label": self.pair[1], "field": "b", "align": "left"},
            ],
            rows=[
                {
                    "what": name, "a": first.get(name, "–"), "b": second.get(name, "–"),
                    "same": marks[first.get(name) == second.get(name)],
                }
                for name in names
            ],
            row_key="what",
        ).classes("w-full").props("flat dense data-mark=compare")  # fmt: skip


def _seen(shelf: _Shelf) -> object:
    """All that the page shows but the shadow's counts, as it is now: entries change in place."""
    entries = [
        (
            entry.name, tuple(entry.record.history), tuple(entry.errors.items()),
            [(v, entry.state(v), _fault(entry, v)) for v in versions],
        )
        for entry, versions in shelf.listing
    ]  # fmt: skip
    return entries, shelf.name, dict(shelf.told), list(shelf.proposals)


def _certified(entry: Entry, version: str) -> dict[str, Any] | None:
    loaded = entry.loaded.get(version)
    return loaded.certificate() if loaded else None


def _fault(entry: Entry, version: str) -> str | None:
    certificate = _certified(entry, version)
    return certificate["fault"] if certificate else None


def _read_cards(files: dict[str, Path]) -> dict[str, cards.Told]:
    found = {}
    for version, path in files.items():
        try:
            found[version] = cards.read(path)
        except TwoninesError:  # the page says that it has no readable card
            continue
    return found
