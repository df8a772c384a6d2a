"""A page belongs to the person it was drawn for; no socket and no upload of another reaches it."""

import inspect
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from fastapi.requests import Request
from nicegui import Client, core
from socketio.exceptions import ConnectionRefusedError as RefusedError
from starlette.types import ASGIApp, Receive, Scope, Send

from twonines.errors import ForbiddenError
from twonines.serving.middleware import error_answer
from twonines.serving.people.roles import Person

_UPLOAD = re.compile(r"/_nicegui/client/([^/]+)/upload/")
_RELOAD = "Implicit handshake failed"
"""What NiceGUI's script answers by loading the page anew, which is then the new person's."""

Handler = Callable[..., Any]


def is_owner(client_id: object, person: Person | None) -> bool:
    """Whether the open page of this id was drawn for this person, in the same role."""
    client = Client.instances.get(client_id) if isinstance(client_id, str) else None
    return client is not None and person is not None and client.request.state.person == person


def guard_sockets() -> None:
    """Let each socket reach the pages of its person alone, whatever its messages claim.

    NiceGUI finds the page by the id in the message. A browser keeps that id when its person logs
    out, so after the next login the old page would go on in the name of the one before.
    """
    server = core.sio
    # A socket is one request, whose person the guard asks anew at every message. Long polling is
    # many, of which the first alone would be looked at here.
    server.eio.transports = ["websocket"]
    core.app.config.socket_io_js_transports = ["websocket"]
    handlers: dict[str, Handler] = server.handlers["/"]
    for event, handler in list(handlers.items()):
        if event == "connect":
            handlers[event] = _checked_connect(handler)
        elif event != "disconnect":
            handlers[event] = _checked(handler)


def _checked_connect(handler: Handler) -> Handler:
    async def connect(sid: str, environ: dict[str, Any], auth: Any = None) -> Any:
        wanted = parse_qs(environ.get("QUERY_STRING", "")).get("client_id")
        if wanted and not is_owner(wanted[0], _person(sid)):
            raise RefusedError(_RELOAD)
        return await _call(handler, sid, environ, auth)

    return connect


def _checked(handler: Handler) -> Handler:
    async def handle(sid: str, message: Any = None, *_: Any) -> Any:
        wanted = message.get("client_id") if isinstance(message, dict) else None
        return await _call(handler, sid, message) if is_owner(wanted, _person(sid)) else False

    return handle


def _person(sid: str) -> Person | None:
    environ = core.sio.get_environ(sid) or {}
    state: dict[str, Any] = environ.get("asgi.scope", {}).get("state", {})
    return state.get("person")


async def _call(handler: Handler, *args: Any) -> Any:
    found = handler(*args)
    return await found if inspect.isawaitable(found) else found


class OwnUploads:
    """Refuses an upload to a page of somebody else, before its body is read."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap ``app``, which is NiceGUI's."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or answer 403."""
        found = _UPLOAD.search(scope["path"]) if scope["type"] == "http" else None
        if found and not is_owner(found[1], scope["state"]["person"]):
            refused = ForbiddenError("page: must be of the person who uploads; load it anew")
            await error_answer(Request(scope), refused)(scope, receive, send)
            return
        await self._app(scope, receive, send)
