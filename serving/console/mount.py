"""Put the console into the service."""

import nicegui
from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse
from nicegui import core, ui
from starlette.middleware.body_limit import RequestBodyLimitMiddleware

from twonines.serving.console import (
    data_page,
    history_page,
    inspect_page,
    live_page,
    models_page,
    people_page,
    reports_page,
    review_page,
    study_page,
    teach_page,
)
from twonines.serving.console.frame import MOUNT, Page, add_assets, add_page
from twonines.serving.console.owned import OwnUploads, guard_sockets
from twonines.serving.console.view import Desk
from twonines.serving.console.works import Works
from twonines.serving.people.roles import console_pages
from twonines.serving.service import Service

PAGES = (
    Page("/", "inspect", "photo_camera", inspect_page.build),
    Page("/live", "live", "monitor_heart", live_page.build),
    Page("/review", "review", "rate_review", review_page.build),
    Page("/history", "history", "history", history_page.build),
    Page("/models", "models", "hub", models_page.build),
    Page("/data", "data", "photo_library", data_page.build),
    Page("/teach", "teach", "school", teach_page.build),
    Page("/study", "study", "groups", study_page.build),
    Page("/reports", "reports", "description", reports_page.build),
    Page("/people", "people", "manage_accounts", people_page.build),
)

_FORM_BYTES = 64 * 1024
"""What a form adds to the picture in it."""


def add_console(app: FastAPI, service: Service) -> None:
    """Serve the console below ``/console``, with ``/`` the first page of one; once a process.

    NiceGUI keeps one application for the process, so a second service in it cannot have one.
    """
    ui.select.default_props("outlined")
    ui.input.default_props("outlined")
    ui.number.default_props("outlined")
    desk = Desk(service, Works())
    add_assets()
    for page in PAGES:
        add_page(desk, page, PAGES)
    reports_page.add_route(desk)
    nicegui.app.on_shutdown(desk.works.close)

    @app.get("/", include_in_schema=False)
    @app.get(MOUNT, include_in_schema=False)
    async def index(request: Request) -> RedirectResponse:
        return RedirectResponse(console_pages(request.state.person.role)[0])

    limit = service.settings.max_bytes + _FORM_BYTES
    nicegui.app.add_middleware(RequestBodyLimitMiddleware, max_body_size=limit)
    nicegui.app.add_middleware(OwnUploads)
    ui.run_with(app, mount_path=MOUNT, title="twonines", show_welcome_message=False)
    core.app.router.redirect_slashes = False  # as in the service's own app
    # A page of another site must not open the console's socket in the person's name.
    core.sio.eio.cors_allowed_origins = None
    guard_sockets()
