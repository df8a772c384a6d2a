"""Changes of what answers, by the person before the page."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from nicegui import ui

from twonines.errors import ConflictError, TwoninesError
from twonines.serving.changes import Changes, Outcome
from twonines.serving.console.parts import dialog, fail, panel
from twonines.serving.console.view import View
from twonines.serving.people.approvals import Approval

Change = Callable[[str | None], Awaitable[Outcome]]
"""Does it; the argument is why, though a known escape is lost, or None."""


async def make_change(view: View, change: Change) -> None:
    """Do it or propose it; where it would lose a known escape, ask for the reason first."""
    try:
        outcome = await change(None)
    except ConflictError as exc:
        if not exc.overridable:
            fail(exc)
            return
        reason = await _reason(view, str(exc))
        if not reason:
            return
        try:
            outcome = await change(reason)
        except TwoninesError as again:
            fail(again)
            return
    except TwoninesError as exc:
        fail(exc)
        return
    proposed = outcome.approval is not None and outcome.approval.state == "pending"
    ui.notify(view.t("waits_for_another" if proposed else "done"), type="positive")
    if outcome.regression:
        count, caught = len(outcome.regression["cases"]), outcome.regression["right_after"]
        ui.notify(view.t("regression", caught=caught, count=count), timeout=10_000)


async def _reason(view: View, why: str) -> str:
    with dialog() as asked, ui.card().style("max-width: 44rem"):
        ui.label(why).style("font-size: 18px; overflow-wrap: anywhere")
        reason = ui.input(view.t("override_reason")).classes("w-full")
        reason.props("maxlength=1000 data-mark=override")
        with ui.row().classes("w-full justify-end"):
            ui.button(view.t("cancel"), on_click=lambda: asked.submit("")).props("outline")
            ui.button(
                view.t("do_it_anyway"), icon="warning", color="negative",
                on_click=lambda: asked.submit(str(reason.value or "").strip()),
            )  # fmt: skip
    return str(await asked or "")


async def read_proposals(view: View) -> list[Approval]:
    """What waits for a second person."""
    service = view.desk.service
    if service.people is None or not service.settings.two_person:
        return []
    found = await asyncio.to_thread(service.people.approvals.list)
    return [one for one in found if one.state == "pending"]


def show_proposals(view: View, waiting: Sequence[Approval], done: Callable[[], object]) -> None:
    """What waits for a second person, with what that person may do."""
    if not waiting:
        return
    changes, t = Changes(view.desk.service), view.t
    with panel(t("proposals")) as box:
        box.props("data-mark=proposals")
        for one in waiting:
            with ui.row().classes("w-full items-center no-wrap"):
                ui.icon("how_to_vote", size="28px")
                text = t("proposed_by", verb=t(one.verb), subject=one.subject, who=one.proposer)
                when = datetime.fromtimestamp(one.proposed_us / 1e6, UTC)
                ui.label(f"{text} · {when:%Y-%m-%d %H:%M} UTC").classes("col")
                for key, icon, approved in (
                    ("approve", "thumb_up", True), ("reject", "thumb_down", False),
                ):  # fmt: skip

                    async def decide(
                        _: object, key: str = one.id, approved: bool = approved
                    ) -> None:
                        person = view.person
                        with ui.context.client:
                            await make_change(
                                view, lambda why: changes.decide(person, key, approved, why)
                            )
                            done()

                    button = ui.button(t(key), icon=icon, on_click=decide)
                    button.props(f"{'' if approved else 'outline'} data-mark={key}")
