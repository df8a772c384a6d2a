"""Reports: made, opened and printed."""

from datetime import UTC, datetime
from pathlib import Path

import nicegui
from fastapi import HTTPException
from fastapi.responses import FileResponse
from nicegui import ui

from twonines.serving.console import sets
from twonines.serving.console.parts import choice, notice, panel, told, work_panel
from twonines.serving.console.view import Desk, View
from twonines.serving.people.roles import Role

KIND = "report"
REPORT = "report.html"
# A report holds names that came from users: no script in it may run, nor anything be loaded.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}


def add_route(desk: Desk) -> None:
    """Serve the reports' files."""

    @nicegui.app.get("/reports/{name}/" + REPORT, include_in_schema=False)
    async def report(name: str) -> FileResponse:
        found = {folder.name: folder for folder in _reports(desk.folder("reports"))}
        if name not in found:  # looked up, never joined: a name cannot lead out of the folder
            raise HTTPException(404)
        return FileResponse(found[name] / REPORT, headers=_HEADERS)


async def build(view: View) -> None:
    """Show the page."""
    view.desk.folder("reports")
    await _Reports(view).build()


class _Reports:
    """The page's state: what the next report is made of."""

    def __init__(self, view: View) -> None:
        self.view, self.t = view, view.t
        self.was_running = False

    async def build(self) -> None:
        if self.view.may(Role.ENGINEER):
            with panel(self.t("make_report")):
                await self.maker()
                self.progress()
        self.listing()
        ui.timer(0.5, self.follow)

    async def maker(self) -> None:
        t, models = self.t, await self.view.desk.service.models.files()
        paths = {f"{n} {v}": path for n, versions in models.items() for v, path in versions.items()}
        names = sets.list_sets(self.view.desk.folder("sets"))
        if not names:
            notice(t("no_sets"))
            return
        with ui.row().classes("w-full items-center"):
            model = choice(t("model"), list(paths))
            chosen = choice(t("set"), names)
            speed = ui.checkbox(t("measure_speed"), value=False)
            ui.button(
                t("make"), icon="summarize",
                on_click=lambda: self.make(paths[str(model.value)], str(chosen.value), speed.value),
            ).props("data-mark=make-report")  # fmt: skip
        ui.label(t("report_needs")).classes("muted")

    async def make(self, model: Path, name: str, speed: bool) -> None:
        title = f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        root = self.view.desk.folder("sets") / name
        await told(
            self.view,
            self.view.desk.works.start(
                KIND, title, "bench", "--model", str(model), "--dataset", "folder",
                "--root", str(root), "--out", str(self.view.desk.folder("reports") / title),
                "--throughput" if speed else "--no-throughput",
            ),
        )  # fmt: skip
        self.was_running = True
        self.progress.refresh()

    @ui.refreshable_method
    def progress(self) -> None:
        work = self.view.desk.works.last(KIND)
        if work:
            work_panel(self.view, work, ())
            if work.running and work.lines:
                ui.label(work.lines[-1]).classes("muted")

    def follow(self) -> None:
        work = self.view.desk.works.last(KIND)
        running = bool(work and work.running)
        if running or self.was_running:
            self.progress.refresh()
        if self.was_running and not running:
            self.listing.refresh()
        self.was_running = running

    @ui.refreshable_method
    def listing(self) -> None:
        t, folders = self.t, _reports(self.view.desk.folder("reports"))
        if not folders:
            notice(t("no_reports"))
        for folder in folders:
            url = f"reports/{folder.name}/{REPORT}"
            made = datetime.fromtimestamp((folder / REPORT).stat().st_mtime, UTC)
            with (
                ui.element("section").classes("panel").props(f"data-report={folder.name}"),
                ui.row().classes("w-full items-center no-wrap"),
            ):
                ui.icon("description", size="32px")
                with ui.column().classes("col gap-0"):
                    ui.label(folder.name).style("font-weight: 700; font-size: 19px")
                    ui.label(f"{made:%Y-%m-%d %H:%M} UTC").classes("muted")
                ui.button(t("open"), icon="open_in_new").on(
                    "click", js_handler=f"() => window.open({url!r}, '_blank', 'noopener')"
                )
                ui.button(t("print"), icon="print").props("outline").on(
                    "click", js_handler=f"() => twonines.print({url!r})"
                )


def _reports(root: Path) -> list[Path]:
    """Folders that hold a report, newest first."""
    found = [path.parent for path in root.glob(f"*/{REPORT}")]
    return sorted(found, key=lambda folder: (folder / REPORT).stat().st_mtime, reverse=True)
