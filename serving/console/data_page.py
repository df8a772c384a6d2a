"""Data: browse a set, and see what is wrong with it before it is taught."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nicegui import ui

from twonines.serving.console import sets
from twonines.serving.console.parts import (
    dialog,
    facts,
    notice,
    panel,
    small_shot,
    told,
    work_panel,
)
from twonines.serving.console.view import View

KIND = "check"
STAGES = ("pictures",)
PAGE = 48
"""Pictures on one page."""
_CLUSTERS = 12
_SMALL = "width: 120px; height: 120px"


async def build(view: View) -> None:
    """Show the page."""
    _Data(view, view.desk.folder("sets")).build()


class _Data:
    """The page's state: the set and class that are looked at, and the last check."""

    def __init__(self, view: View, root: Path) -> None:
        self.view, self.t, self.root = view, view.t, root
        self.names = sets.list_sets(root)
        self.name = self.names[0] if self.names else ""
        self.kind, self.page = "", 1
        self.was_running = False

    def build(self) -> None:
        if not self.names:
            notice(self.t("no_sets"))
            return
        with ui.row().classes("w-full items-center"):
            ui.select(self.names, value=self.name, label=self.t("set")).on_value_change(
                lambda e: self.choose(str(e.value))
            ).style("min-width: 16rem")
            ui.button(self.t("check"), icon="fact_check", on_click=self.check).props(
                "data-mark=check"
            )
        self.findings()
        self.browse()
        ui.timer(0.5, self.follow)

    def choose(self, name: str) -> None:
        self.name, self.kind, self.page = name, "", 1
        self.findings.refresh()
        self.browse.refresh()

    @property
    def report(self) -> Path:
        return self.view.desk.folder("checks") / f"{self.name}.json"

    async def check(self) -> None:
        self.report.unlink(missing_ok=True)  # what was found before no longer counts
        await told(
            self.view,
            self.view.desk.works.start(
                KIND, self.name, "datasets", "check", "folder", "--root",
                str(self.root / self.name), "--json", str(self.report),
            ),
        )  # fmt: skip
        self.was_running = True
        self.findings.refresh()

    def follow(self) -> None:
        work = self.view.desk.works.last(KIND)
        running = bool(work and work.running)
        if running or self.was_running:
            self.findings.refresh()
        self.was_running = running

    @ui.refreshable_method
    def findings(self) -> None:
        work = self.view.desk.works.last(KIND)
        mine = work if work and work.title == self.name else None
        if mine and mine.running:
            work_panel(self.view, mine, STAGES)
        elif self.report.is_file():
            self.show_report(json.loads(self.report.read_bytes()))
        elif mine:
            work_panel(self.view, mine, STAGES)
        else:
            notice(self.t("not_checked"))

    def show_report(self, found: dict[str, Any]) -> None:
        t = self.t
        bad = found["unreadable"] or found["leaks"]
        with panel(t("findings")):
            notice(t("unsound") if bad else t("sound"), "bad" if bad else "good")
            with ui.row().classes("w-full items-start no-wrap"):
                with ui.column().classes("col"):
                    facts(
                        {
                            t("count_pictures"): found["pictures"],
                            t("defective_share"): f"{found['defective_share']:.1%}",
                            t("imbalance"): f"{found['imbalance']:.1f} : 1",
                            t("sizes"): ", ".join(f"{k} ({v})" for k, v in found["sizes"].items()),
                            t("unreadable"): len(found["unreadable"]),
                            t("label_conflicts"): len(found["conflicts"]),
                            t("exact_duplicates"): len(found["exact_duplicates"]),
                            t("near_duplicates"): len(found["near_duplicates"]),
                            t("other_faults"): len(found["faults"]),
                        }
                    )
                _bars(found["counts"]).classes("col")
            for item in [*found["unreadable"], *found["faults"]][:_CLUSTERS]:
                notice(f"{item['path']}: {item.get('why') or item['kind'] + ' ' + item['detail']}")
            for key in ("conflicts", "exact_duplicates", "near_duplicates"):
                self.clusters(key, found[key])

    def clusters(self, key: str, clusters: Sequence[Sequence[str]]) -> None:
        if not clusters:
            return
        name = self.t("label_conflicts" if key == "conflicts" else key)
        title = f"{name}: {len(clusters)}"
        opened = key == "conflicts"
        icon = "warning" if opened else "content_copy"
        with (
            ui.expansion(title, icon=icon, value=opened).classes("w-full").props(f"data-mark={key}")
        ):
            with ui.row().classes("items-start"):
                for paths in clusters[:_CLUSTERS]:
                    with ui.row().classes("panel gap-2").style("width: auto"):
                        for path in paths[:4]:
                            with ui.column().classes("gap-0 items-center"):
                                small_shot(self.root / self.name / path, path, _SMALL)
                                ui.label(path).style("font-size: 14px; max-width: 120px").classes(
                                    "ellipsis"
                                ).tooltip(path)

    @ui.refreshable_method
    def browse(self) -> None:
        chosen, t = sets.open_set(self.root, self.name), self.t
        kinds = [kind for kind, paths in chosen.classes.items() if paths]
        if not kinds:
            notice(t("empty_set"))
            return
        self.kind = self.kind if self.kind in kinds else kinds[0]
        paths = chosen.classes[self.kind]
        with panel(t("browse")):
            with ui.row().classes("w-full items-center"):
                ui.toggle(
                    {kind: f"{kind} ({len(chosen.classes[kind])})" for kind in kinds},
                    value=self.kind, on_change=lambda e: self.look(str(e.value), 1),
                ).props("no-caps")  # fmt: skip
                pages = -(-len(paths) // PAGE)
                if pages > 1:
                    ui.pagination(
                        1, pages, direction_links=True, value=self.page,
                        on_change=lambda e: self.look(self.kind, int(e.value)),
                    ).props("max-pages=6")  # fmt: skip
            with ui.row().classes("gap-2 q-mt-sm").props("data-mark=browse"):
                for path in paths[(self.page - 1) * PAGE : self.page * PAGE]:
                    self.one(chosen, path)

    def one(self, chosen: sets.PictureSet, path: Path) -> None:
        with ui.button(on_click=lambda: self.open(chosen, path)).props("flat padding=none"):
            small_shot(path, path.name, _SMALL).tooltip(path.name)

    def look(self, kind: str, page: int) -> None:
        self.kind, self.page = kind, page
        self.browse.refresh()

    def open(self, chosen: sets.PictureSet, path: Path) -> None:
        async def change(name: str) -> None:
            async def move() -> None:
                if name:
                    sets.move_picture(chosen, path, name)
                else:
                    sets.remove_picture(chosen, path)

            await told(self.view, move(), "done")
            opened.close()
            self.browse.refresh()

        with dialog() as opened, ui.card().style("min-width: 50vw; max-width: 95vw"):
            ui.label(f"{self.kind} / {path.name}").style(
                "font-weight: 700; overflow-wrap: anywhere"
            )
            small_shot(path, path.name, "width: 100%; max-height: 60vh", 1200)
            with ui.row().classes("items-center w-full"):
                for name in chosen.classes:
                    if name != self.kind:
                        ui.button(
                            self.t("move_to", name=name), icon="drive_file_move",
                            on_click=lambda _, name=name: change(name),
                        ).props("outline")  # fmt: skip
                ui.button(self.t("take_out"), icon="delete", on_click=lambda: change("")).props(
                    "outline color=negative"
                )
                ui.space()
                ui.button(self.t("close"), icon="close", on_click=opened.close)


def _bars(counts: dict[str, int]) -> ui.echart:
    names = sorted(counts, key=lambda name: counts[name])
    return ui.echart(
        {
            "grid": {"left": 8, "right": 48, "top": 8, "bottom": 8, "containLabel": True},
            "xAxis": {"type": "value", "splitLine": {"show": False}},
            "yAxis": {"type": "category", "data": names, "axisLabel": {"fontSize": 15}},
            "series": [
                {
                    "type": "bar", "data": [counts[name] for name in names],
                    "label": {"show": True, "position": "right", "fontSize": 15},
                    "itemStyle": {"color": "#1c4f9c"},
                }
            ],
        }
    ).style(f"height: {60 + 36 * len(names)}px")  # fmt: skip
