"""Study: manual inspection measured: plans, the page for the people, and what came out."""

import json
import re
from pathlib import Path
from typing import Any

from nicegui import ui

from twonines.serving.console import sets
from twonines.serving.console.parts import choice, facts, notice, panel, told, work_panel
from twonines.serving.console.view import View
from twonines.serving.console.works import Work
from twonines.types import GOOD

PLAN, SERVE, ANALYSE = "study-plan", "study-serve", "study-analyse"
_ADDRESS = re.compile(r"at http://\S+:(\d+)")


async def build(view: View) -> None:
    """Show the page."""
    view.desk.folder("studies")
    _Study(view).build()


class _Study:
    """The page's state: what runs."""

    def __init__(self, view: View) -> None:
        self.view, self.t, self.works = view, view.t, view.desk.works
        self.planned: object = None
        self.listed: object = None

    def build(self) -> None:
        with panel(self.t("new_study")):
            self.planner()
            self.planning()
        self.listing()
        ui.timer(0.5, self.follow)

    @property
    def root(self) -> Path:
        return self.view.desk.folder("studies")

    def planner(self) -> None:
        t, names = self.t, sets.list_sets(self.view.desk.folder("sets"))
        if not names:
            notice(t("no_sets"))
            return
        with ui.row().classes("w-full items-center"):
            name = ui.input(t("study_name")).props("maxlength=80 data-mark=study-name")
            chosen = choice(t("set"), names)
            count = ui.number(t("count_pictures"), value=40, min=2, step=1).props(
                "data-mark=study-pictures"
            )
            ui.button(
                t("plan"), icon="event_note",
                on_click=lambda: self.plan(str(name.value), str(chosen.value), int(count.value)),
            ).props("data-mark=plan")  # fmt: skip
        ui.label(t("plan_is_fixed")).classes("muted")

    async def plan(self, name: str, chosen: str, count: int) -> None:
        async def start() -> None:
            folder = self.root / sets.check_name(name, "study")
            await self.works.start(
                PLAN, folder.name, "study", "plan", "--dataset", "folder", "--root",
                str(self.view.desk.folder("sets") / chosen), "--out", str(folder),
                "--pictures", str(count),
            )  # fmt: skip

        await told(self.view, start())

    @ui.refreshable_method
    def planning(self) -> None:
        work = self.works.last(PLAN)
        if work:
            work_panel(self.view, work, ())

    def follow(self) -> None:
        """Draw anew only what has changed, so that nothing moves under a finger."""
        plan, *others = (self.works.last(kind) for kind in (PLAN, SERVE, ANALYSE))
        planned = (plan.title, plan.code, len(plan.lines)) if plan else None
        if planned != self.planned:
            self.planned = planned
            self.planning.refresh()
        # Not with every line of a plan: a click on a button that is drawn anew is lost.
        listed = [
            *self.plans(),
            *((work.title, work.code, _address(work)) if work else None for work in others),
        ]
        if listed != self.listed:
            self.listed = listed
            self.listing.refresh()

    def plans(self) -> list[Path]:
        """Plans that are whole, the newest first."""
        work = self.works.last(PLAN)
        being_made = work.title if work and work.running else None
        found = (p for p in self.root.glob("*/plan.json") if p.parent.name != being_made)
        return sorted(found, key=lambda p: -p.stat().st_mtime)

    @ui.refreshable_method
    def listing(self) -> None:
        plans = self.plans()
        if not plans:
            notice(self.t("no_studies"))
        for path in plans:
            self.one(path.parent)

    def one(self, folder: Path) -> None:
        t, plan = self.t, json.loads((folder / "plan.json").read_bytes())
        serving, analysing = self.works.last(SERVE), self.works.last(ANALYSE)
        served = serving if serving and serving.title == folder.name else None
        mine = analysing if analysing and analysing.title == folder.name else None
        with panel(folder.name) as box:
            box.props(f"data-study={folder.name!r}")
            bad = sum(p["defect_class"] != GOOD for p in plan["pictures"])
            facts(
                {
                    t("count_pictures"): t("of_them_bad", count=len(plan["pictures"]), bad=bad),
                    t("looks_each"): plan["repeats"],
                    t("drawn_from"): plan["basis"],
                    t("created"): plan["created"][:16].replace("T", " "),
                }
            )
            with ui.row().classes("w-full items-center"):
                if served and served.running:
                    self.link(served)
                else:
                    outside = ui.checkbox(t("from_outside"), value=False)
                    outside.props("data-mark=from-outside")
                    ui.button(
                        t("start_study"), icon="play_arrow",
                        on_click=lambda: self.serve(folder, outside.value),
                    ).props("data-mark=start-study")  # fmt: skip
                ui.button(
                    t("analyse"), icon="query_stats", on_click=lambda: self.analyse(folder)
                ).props("outline data-mark=analyse")
            for work in (served, mine):
                if work and work.code not in (None, 0, -15):
                    notice(work.error, "bad")
            if (folder / "analysis.json").is_file():
                self.results(json.loads((folder / "analysis.json").read_bytes()))

    def link(self, served: Work) -> None:
        t, port = self.t, _address(served)
        ui.icon("sensors", size="28px")
        if port is None:
            ui.label(t("starting"))
        else:
            url = f"http://{self.view.request.url.hostname}:{port}/"
            ui.link(t("open_study", url=url), url, new_tab=True).props("data-mark=study-link")
        ui.button(t("stop"), icon="stop", on_click=served.stop).props("outline")

    async def serve(self, folder: Path, outside: bool) -> None:
        command = serve_command(folder, outside)
        await told(self.view, self.works.start(SERVE, folder.name, *command))

    async def analyse(self, folder: Path) -> None:
        await told(
            self.view,
            self.works.start(
                ANALYSE, folder.name, "study", "analyse", str(folder), "--out", str(folder)
            ),
        )

    def results(self, found: dict[str, Any]) -> None:
        t, pooled = self.t, found["pooled"]
        names = {
            "accuracy": True, "escape_rate": True, "overkill_rate": True, "median_seconds": False,
        }  # fmt: skip
        with ui.row().classes("w-full").props("data-mark=results"):
            facts(
                {t(f"study_{name}"): _figure(pooled[name], share) for name, share in names.items()}
            )
            facts(
                {
                    row["inspector"]: f"{t('effectiveness')} {_figure(row['effectiveness'], True)}"
                    for row in found["agreement"]["inspectors"]
                }
            )
            facts({t("kappa_between"): _figure(found["agreement"]["between"], False)})


def serve_command(folder: Path, outside: bool) -> tuple[str, ...]:
    """What opens a study's page; ``outside`` also for other machines, without a login."""
    where = ("--host", "0.0.0.0", "--insecure-no-login") if outside else ("--host", "127.0.0.1")
    return ("study", "serve", str(folder), *where, "--port", "0")


def _figure(estimate: dict[str, Any], share: bool) -> str:
    values = [estimate["value"], estimate["low"], estimate["high"]]
    if None in values:
        return "–"
    value, low, high = (f"{v:.1%}" if share else f"{v:.2f}" for v in values)
    return f"{value} [{low}, {high}]"


def _address(served: Work) -> str | None:
    """The port that a study's page is served on, once it says so."""
    found = _ADDRESS.search("\n".join(served.lines))
    return found[1] if found else None
