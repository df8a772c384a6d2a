"""The page for a browser that opens what its person's role does not cover."""

import html
import importlib.resources
from string import Template
from typing import Final

from fastapi.responses import HTMLResponse
from starlette.requests import Request

from twonines.errors import RoleError
from twonines.serving.console.texts import Words
from twonines.serving.people.roles import Person, console_pages
from twonines.serving.people.routes import keys

_POLICY: Final = (
    "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"}


def refused_page(request: Request, exc: RoleError) -> HTMLResponse:
    """Which role it takes, and where the person may go instead; in the browser's language."""
    person: Person = request.state.person
    t = Words.of_browser(request.cookies, request.headers)
    links = "".join(
        f'<a href="{path}">{html.escape(text)}</a>' for path, text in _links(request, person, t)
    )
    texts = {
        "language": t.language,
        "title": t("refused_title"),
        "refused": t("refused", role=t(f"role_{exc.least}")),
        "person": t("logged_in_as", name=person.name, role=t(f"role_{person.role}")),
        "may": t("you_may_open"),
        "log_out": t("log_out"),
    }
    static = importlib.resources.files("twonines.serving").joinpath("static")
    page = Template(static.joinpath("refused.html").read_text("utf-8"))
    safe = {name: html.escape(text) for name, text in texts.items()}
    return HTMLResponse(page.substitute(safe, links=links), 403, _HEADERS)


def _links(request: Request, person: Person, t: Words) -> list[tuple[str, str]]:
    served = set(keys(request.app.routes))
    pages = [path for path in console_pages(person.role) if f"GET {path}" in served]
    named = [(path, t(path.rpartition("/")[2] or "inspect")) for path in pages]
    return named or [("/", t("start_page"))]
