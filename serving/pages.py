"""The page, health and metrics."""

import importlib.resources
import importlib.util

from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse

from twonines.serving.service import Service

_LOGIN_POLICY = (
    "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def add_pages(app: FastAPI, service: Service) -> None:
    """Add them to ``app``."""
    static = importlib.resources.files("twonines.serving").joinpath("static")
    login_page = static.joinpath("login.html").read_text("utf-8")
    if service.settings.console and importlib.util.find_spec("nicegui"):
        from twonines.serving.console.mount import add_console

        add_console(app, service)
    else:
        _add_simple_page(app)

    @app.get("/login", include_in_schema=False)
    async def login() -> HTMLResponse:
        return HTMLResponse(login_page, headers={"Content-Security-Policy": _LOGIN_POLICY})

    @app.get("/healthz", tags=["health"], responses={503: {"description": "must be restarted"}})
    async def healthz() -> dict[str, str]:
        """The process lives, and no session that should answer is beyond repair."""
        service.check_alive()
        return {"status": "alive"}

    @app.get("/readyz", tags=["health"], responses={503: {"description": "not ready"}})
    async def readyz() -> dict[str, str]:
        """A model is loaded and takes pictures, and the service is not about to end.

        With ``--records-failure refuse`` also: inspections can be recorded. Else ``records`` says
        that they cannot, as long as that is so.
        """
        service.check_ready()
        fault = service.store_fault
        return {"status": "ready"} | ({"records": fault} if fault else {})

    @app.get(
        "/metrics",
        tags=["health"],
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}, "description": "all metrics"}},
    )
    async def metrics() -> Response:
        """Prometheus metrics."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


def _add_simple_page(app: FastAPI) -> None:
    """What is shown without the extra ``console``."""
    static = importlib.resources.files("twonines.serving").joinpath("static")
    page = static.joinpath("index.html").read_text("utf-8")

    @app.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(page)
