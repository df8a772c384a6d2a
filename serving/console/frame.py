"""The frame around every page: header, rail, and the refusal of who may not."""

import importlib.resources
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from fastapi import Request
from nicegui import ui

from twonines.errors import TwoninesError
from twonines.serving.console.parts import notice
from twonines.serving.console.view import Desk, View
from twonines.serving.people.roles import ACCESS, Role

MOUNT = "/console"
Build = Callable[[View], Awaitable[None]]
_STATIC = "twonines.serving.console"


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its path, the key of its title, and its icon."""

    path: str
    key: str
    icon: str
    build: Build

    @property
    def role(self) -> Role:
        """The least role that may see it, by the table of access."""
        role = ACCESS[f"GET {MOUNT}{self.path}"]
        assert role is not None
        return role


def add_assets() -> None:
    """Give every page the console's style and script."""
    folder = importlib.resources.files(_STATIC).joinpath("static")
    ui.add_css(folder.joinpath("console.css").read_text(), shared=True)
    ui.add_head_html(f"<script>{folder.joinpath('console.js').read_text()}</script>", shared=True)


def add_page(desk: Desk, page: Page, pages: Sequence[Page]) -> None:
    """Register it."""

    @ui.page(page.path, response_timeout=30)
    async def show(request: Request) -> None:
        view = View.of(desk, request)
        ui.colors(primary="#1c4f9c", negative="#b00020", positive="#1b6e35")
        ui.page_title(f"twonines: {view.t(page.key)}")
        _header(view, page)
        _rail(view, page, pages)
        if not view.may(page.role):
            notice(view.t("refused", role=view.t(f"role_{page.role}")), "bad")
            return
        try:
            await page.build(view)
        except TwoninesError as exc:
            notice(str(exc), "bad")


def _header(view: View, page: Page) -> None:
    with ui.header().classes("items-center q-py-sm q-px-md no-wrap"):
        ui.label("twonines").classes("muted").style("font-weight: 700")
        ui.label(view.t(page.key)).classes("title").props("role=heading aria-level=1")
        ui.space()
        ui.icon("person", size="24px")
        role = view.t(f"role_{view.person.role}")
        ui.label(f"{view.person.name} ({role})").classes("ellipsis").style("max-width: 16rem")
        if not view.is_local:
            ui.button(view.t("log_out"), icon="logout").props("flat color=primary").on(
                "click", js_handler="() => twonines.logout()"
            )
        other = "zh" if view.t.language == "en" else "en"
        name = {"en": "English", "zh": "中文"}[other]
        ui.button(name, icon="translate").props("flat color=primary").on(
            "click", js_handler=f'() => twonines.language("{other}")'
        )


def _rail(view: View, here: Page, pages: Sequence[Page]) -> None:
    drawer = ui.left_drawer(value=True, fixed=True).props("width=104 breakpoint=0")
    with drawer.classes("q-pa-none"):
        for page in pages:
            if not view.may(page.role):
                continue
            current = page is here
            with ui.link(target=page.path).classes("rail" + (" here" if current else "")) as link:
                ui.icon(page.icon)
                ui.label(view.t(page.key))
            if current:
                link.props("aria-current=page")
