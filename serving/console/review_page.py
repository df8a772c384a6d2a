"""Review: what a person must decide, by the keyboard."""

import time
from dataclasses import dataclass

from nicegui import events, ui

from twonines.errors import TwoninesError
from twonines.serving.console.drawing import Part
from twonines.serving.console.parts import notice, tile, told, verdict
from twonines.serving.console.recorded import (
    Pictures,
    ask,
    classes_of,
    load_pictures,
    records_of,
    show_facts,
    show_pictures,
)
from twonines.serving.console.view import View
from twonines.serving.people.signing import Signature
from twonines.serving.store.entries import Recorded

BATCH = 50
_KEYS = {"o": "OK", "n": "NG"}


async def build(view: View) -> None:
    """Show the page."""
    await _Review(view).build()


@dataclass(frozen=True, slots=True)
class _Told:
    """Of all reviews: how many of the pairs agreed, and decisions by verdict."""

    agreed: int
    pairs: int
    decisions: dict[tuple[str, str], int]


class _Review:
    """The page's state: the queue, the place in it, and what has been done here."""

    def __init__(self, view: View) -> None:
        self.view, self.t = view, view.t
        self.records = records_of(view)
        self.queue: list[Recorded] = []
        self.place = 0
        self.chosen: str | None = None
        self.note = ""
        self.done = 0
        self.since = 0.0
        self.busy = False
        self.more = False
        self.signed = Signature.of(view.person, "reviewer", None)
        self.counters = Part(self.read_counters, self.draw_counters)
        self.show = Part(self.read_item, self.draw_item)

    async def build(self) -> None:
        if self.view.is_local:  # nobody has logged in, and two of them must be told apart
            ui.input(self.t("your_name"), value=self.signed.name).props(
                "maxlength=200 data-mark=reviewer"
            ).on_value_change(lambda e: self.call_me(str(e.value)))
        await self.fill()
        await self.counters.place()
        await self.show.place()
        ui.keyboard(self.key, repeating=False)

    async def call_me(self, name: str) -> None:
        async def call() -> None:
            self.signed = Signature.of(self.view.person, "reviewer", name.strip() or None)

        if await told(self.view, call()):
            await self.again()

    async def fill(self) -> None:
        page = await ask(lambda: self.records.queue(reviewer=self.signed.name, limit=BATCH))
        self.queue, self.more, self.place = list(page.items), page.cursor is not None, 0

    async def read_counters(self) -> _Told:
        agreed, pairs = await ask(self.records.agreement)
        return _Told(agreed, pairs, await ask(self.records.decisions))

    def draw_counters(self, counted: _Told) -> None:
        t, decisions = self.t, counted.decisions
        people = self.view.desk.service.settings.reviewers
        waiting = f"{len(self.queue)}{'+' if self.more else ''}"
        share = (
            f"{counted.agreed / counted.pairs:.0%} ({counted.agreed}/{counted.pairs})"
            if counted.pairs
            else "–"
        )
        with ui.row().classes("w-full items-stretch"):
            tile(t("waiting"), waiting, "hourglass_empty", "waiting")
            tile(t("done_here"), str(self.done), "task_alt", "done")
            tile(t("persons_each"), str(people), "groups", "persons")
            tile(t("agreement"), share, "handshake", "agreement")
            tile(t("found_escapes"), str(decisions.get(("OK", "NG"), 0)), "report", "escapes")
            tile(t("found_overkills"), str(decisions.get(("NG", "OK"), 0)), "undo", "overkills")

    async def read_item(self) -> tuple[Recorded, Pictures] | None:
        if not self.queue:
            return None
        item = self.queue[self.place]
        return item, await load_pictures(self.view.desk.service, item.id)

    def draw_item(self, found: tuple[Recorded, Pictures] | None) -> None:
        if found is None:
            notice(self.t("nothing_waits"), "good")
            ui.button(self.t("look_again"), icon="refresh", on_click=self.again)
            return
        item, pictures = found
        kinds = classes_of(item, self.view.desk.service)
        with (
            ui.element("section").classes("panel").props(f"data-review={item.id}"),
            ui.row().classes("w-full no-wrap items-start"),
        ):
            with ui.column().classes("col").style("min-width: 0"):
                show_pictures(self.view, pictures, item.file or item.id, "52vh")
                self.buttons()
            with ui.column().style("width: 22rem; flex: none"):
                verdict(self.view, item.verdict, large=True)
                self.kinds(kinds)
                ui.input(self.t("note")).bind_value(self, "note").classes("w-full")
                show_facts(self.view, item)
        self.since = time.monotonic()

    def buttons(self) -> None:
        t = self.t
        with ui.row().classes("w-full items-center no-wrap gap-2 q-mt-sm"):
            for value, icon, colour, letter in (
                ("OK", "check_circle", "positive", "O"),
                ("NG", "cancel", "negative", "N"),
            ):
                with ui.button(
                    value, icon=icon, color=colour,
                    on_click=lambda _, value=value: self.decide(value),
                ).props(f"data-mark=say-{value}").style(
                    "height: 64px; flex: 1 1 0; font-size: 22px; font-weight: 700"
                ):  # fmt: skip
                    _key(letter)
            with (
                ui.button(t("skip"), icon="skip_next", on_click=lambda: self.move(1))
                .props("outline")
                .style("height: 64px")
            ):
                _key("S")
            for icon, step, name in (("arrow_back", -1, "back"), ("arrow_forward", 1, "forward")):
                ui.button(icon=icon, on_click=lambda _, step=step: self.move(step)).props(
                    f"outline aria-label={t(name)!r}"
                ).style("height: 64px")
        ui.label(f"{self.place + 1} / {len(self.queue)}").classes("muted")

    @ui.refreshable_method
    def kinds(self, kinds: list[str]) -> None:
        if self.chosen not in kinds:
            self.chosen = None
        ui.label(self.t("kind_of_defect")).classes("muted")
        with ui.row().classes("gap-2"):
            for number, kind in enumerate(kinds[:9], 1):
                chosen = kind == self.chosen
                button = ui.button(
                    f"{number} · {kind}", icon="check" if chosen else None,
                    on_click=lambda _, kind=kind: self.choose(kind),
                )  # fmt: skip
                button.props("" if chosen else "outline").props(f"data-kind={number}")

    def choose(self, kind: str) -> None:
        self.chosen = None if kind == self.chosen else kind
        self.kinds.refresh()  # not the picture, which the model would have to see again

    async def decide(self, value: str) -> None:
        if self.busy or not self.queue:  # a key struck twice decides one part
            return
        self.busy = True
        try:
            item = self.queue[self.place]
            seconds = time.monotonic() - self.since
            kind = self.chosen if value == "NG" else None
            found = await ask(
                lambda: self.records.add_review(
                    item.id,
                    reviewer=self.signed.name,
                    verdict=value,
                    defect_class=kind,
                    note=self.note,
                    seconds=seconds,
                )  # fmt: skip
            )
            service, said = self.view.desk.service, {"verdict": value, **self.signed.told}
            await service.note_act(self.view.person.actor, "review", item.id, said)
            if found.due:
                ui.notify(self.t("another_person"), type="info")
            self.done += 1
        except TwoninesError as exc:
            ui.notify(str(exc), type="negative", multi_line=True)
        finally:
            self.busy = False
        del self.queue[self.place]
        self.note, self.chosen = "", None
        if not self.queue:
            await self.fill()
        self.place = min(self.place, max(0, len(self.queue) - 1))
        self.counters.refresh()
        self.show.refresh()

    def move(self, step: int) -> None:
        if self.queue:
            self.place = (self.place + step) % len(self.queue)
            self.note, self.chosen = "", None
            self.show.refresh()

    async def again(self) -> None:
        await self.fill()
        self.counters.refresh()
        self.show.refresh()

    async def key(self, event: events.KeyEventArguments) -> None:
        if not event.action.keydown or event.modifiers.ctrl or event.modifiers.alt:
            return
        letter = event.key.name.lower()
        if letter in _KEYS:
            await self.decide(_KEYS[letter])
        elif letter == "s" or event.key.arrow_right:
            self.move(1)
        elif event.key.arrow_left:
            self.move(-1)
        elif event.key.number and self.queue:
            kinds = classes_of(self.queue[self.place], self.view.desk.service)
            if event.key.number <= len(kinds):
                self.choose(kinds[event.key.number - 1])


def _key(letter: str) -> None:
    with ui.element("kbd").classes("q-ml-sm"):
        ui.label(letter)
