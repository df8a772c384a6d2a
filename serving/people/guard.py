"""Nobody passes who is not allowed to: who asks, by the table of access, before any route."""

import hmac
import ipaddress
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlsplit

from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twonines.errors import (
    ForbiddenError,
    LoginError,
    NotReadyError,
    OverloadedError,
    RoleError,
    TwoninesError,
)
from twonines.serving.middleware import error_answer
from twonines.serving.people.limits import Tries
from twonines.serving.people.people import People
from twonines.serving.people.refusal import refused_page
from twonines.serving.people.roles import ACCESS, CONSOLE, LOCAL, Person
from twonines.serving.people.routes import find_key
from twonines.serving.people.sessions import COOKIE

log = logging.getLogger(__name__)
_SAFE = ("GET", "HEAD", "OPTIONS")
_BY_ITSELF = ("3", '42["ack"', '42["javascript_response"')
"""How messages begin that a page sends also where nobody sits before it: Engine.IO's heartbeat,
and what NiceGUI's script answers to what a timer has drawn."""
_DEAR = {"GET /v1/inspections/export", "GET /metrics"} | {
    key for key in CONSOLE if key.startswith("GET /console/") and "_nicegui" not in key
}
"""What takes so long to build that a viewer in a loop would slow down the line."""
MOST_LOOKS = 60
"""Of these a person may take so many at once, and then one a second."""
_FRESH_S = 1.0
"""So long, who has been recognised is not asked again."""


class Asker(NamedTuple):
    """Who asks, and how they showed it; ``csrf`` is the token of a session."""

    person: Person | None
    by_key: bool = False
    csrf: str | None = None


class Guard:
    """Sets ``request.state.person``, or refuses.

    A key comes as ``Authorization: Bearer`` or ``X-API-Key``, a session as a cookie. A request
    that a browser sends by itself, with the cookie or without any login, must come from a page of
    this service: by its ``Origin``, or by the session's token in ``X-CSRF``.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        people: Callable[[], People | None],
        routes: Callable[[], Sequence[BaseRoute]],
        stores: bool,
        insecure: bool,
    ) -> None:
        """Wrap ``app``.

        Args:
            app: what is guarded.
            people: who is known; None where nothing is stored, or not yet.
            routes: the app's own list.
            stores: whether people must be known, so that without them nobody passes.
            insecure: whether whoever reaches the service may use it without login.
        """
        self._app, self._people, self._routes = app, people, routes
        self._stores, self._insecure = stores, insecure
        self._looks = Tries(MOST_LOOKS, 1.0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request or websocket through, or answer it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            await self._admit(scope)
        except TwoninesError as exc:
            await _refuse(exc, scope, receive, send)
            return
        if scope["type"] == "websocket":
            receive = self._watched(scope, receive)
        elif not _is_safe(scope) and scope["state"]["person"] is not None:
            receive = self._asked_again(scope, receive)
        await self._app(scope, receive, send)

    async def _admit(self, scope: Scope) -> None:
        """Note in the scope who asks, where they may use the route."""
        key = find_key(self._routes(), scope)
        is_open = key in ACCESS and ACCESS[key] is None
        asker = Asker(None) if is_open else await self._ask(scope)
        scope.setdefault("state", {})["person"] = asker.person  # a refusal names them, too
        if not is_open:
            _check_role(asker.person, key)
            self._check_pace(asker.person, key)
        if not asker.by_key:
            self._check_origin(scope, asker)

    def _check_pace(self, person: Person | None, key: str | None) -> None:
        if person is None or person is LOCAL or key not in _DEAR:
            return
        wait = self._looks.take(person.actor)
        if wait:
            raise OverloadedError(f"pages: too many at once for {person.actor}; wait", wait)

    async def _ask(self, scope: Scope, *, touch: bool = True) -> Asker:
        people = self._people()
        if people is None:
            if self._stores:
                raise NotReadyError("the service is not ready")
            return Asker(LOCAL)
        try:
            return await run_in_threadpool(self._recognise, people, scope, touch)
        except SQLAlchemyError as exc:
            log.error("the database cannot be asked who this is: %s", exc)
            raise NotReadyError("the database is not available") from exc

    def _recognise(self, people: People, scope: Scope, touch: bool) -> Asker:
        connection = HTTPConnection(scope)
        secret = _secret(connection.headers)
        if secret is not None:
            person = people.find_key(secret)
            if person is None:
                raise LoginError("key: must be valid; it is unknown or revoked")
            return Asker(person, by_key=True)
        token = connection.cookies.get(COOKIE)
        login = people.find_login(token, touch=touch) if token else None
        if login:
            return Asker(login.person, csrf=login.csrf)
        if self._insecure or not people.needs_login():
            people.meter.prepare(LOCAL)
            return Asker(LOCAL)
        return Asker(None)

    def _check_origin(self, scope: Scope, asker: Asker) -> None:
        headers = Headers(scope=scope)
        if asker.person is LOCAL and not self._insecure:
            _check_near(headers.get("host", ""))
        if _is_safe(scope):
            return
        shown = headers.get("x-csrf", "").encode()
        if asker.csrf and hmac.compare_digest(shown, asker.csrf.encode()):
            return
        origin = headers.get("origin")
        if origin is None:
            if not asker.csrf:  # no browser: it names the origin of all that may change things
                return
        elif urlsplit(origin).netloc == headers.get("host"):
            return
        raise ForbiddenError(
            "origin: must be a page of this service, or the session's token must come in X-CSRF"
        )

    def _asked_again(self, scope: Scope, receive: Receive) -> Receive:
        """Of a request that changes things: who asks must still be let in when its body is there.

        Else one that is held open would outlive the login, the key or the role it began with.
        """
        fresh_until = time.monotonic() + _FRESH_S

        async def asked() -> Message:
            message = await receive()
            is_last = message["type"] == "http.request" and not message.get("more_body")
            if not is_last or time.monotonic() < fresh_until:
                return message
            try:
                is_same = await self._is_same(scope)
            except NotReadyError as exc:
                raise HTTPException(exc.status, str(exc)) from exc
            if not is_same:
                raise HTTPException(401, "login: it has ended, or the role is another one now")
            return message

        return asked

    def _watched(self, scope: Scope, receive: Receive) -> Receive:
        """Of a websocket: whoever may use it no more is cut off before the next message counts."""

        async def watched() -> Message:
            message = await receive()
            if message["type"] != "websocket.receive":
                return message
            is_use = not str(message.get("text")).startswith(_BY_ITSELF)
            with suppress(NotReadyError):
                if await self._is_same(scope, touch=is_use):
                    return message
            return {"type": "websocket.disconnect", "code": 1008, "reason": "login"}

        return watched

    async def _is_same(self, scope: Scope, *, touch: bool = True) -> bool:
        """Whether the one who was let in still is, in the same role.

        Raises:
            NotReadyError: that cannot be asked now.
        """
        try:
            person = (await self._ask(scope, touch=touch)).person
        except NotReadyError:
            raise
        except TwoninesError:
            return False
        return person is not None and person == scope["state"]["person"]


def _check_role(person: Person | None, key: str | None) -> None:
    """Refuse who may not; a path without a route is for whoever is known, to be told so."""
    if person is None:
        raise LoginError("login: needed for this; log in, or send an API key")
    if key is None or person.may_use(key):
        return
    if key not in ACCESS:
        log.error("%s has no entry in the table of access, and is refused", key)
        raise ForbiddenError("access: nobody may do this")
    raise RoleError(str(person.role), str(ACCESS[key]))


def _secret(headers: Headers) -> str | None:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return given.strip()
    return headers.get("x-api-key")


def _is_safe(scope: Scope) -> bool:
    # A websocket is opened by GET and can do everything.
    return scope["type"] == "http" and scope["method"] in _SAFE


def _check_near(host: str) -> None:
    """Refuse a host that has a name in the DNS.

    Without login the service is for this machine alone. Who calls it by such a name comes through
    a proxy, or is a page that had its name resolved to this machine (DNS rebinding).
    """
    name = urlsplit(f"//{host}").hostname or ""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        if "." in name and not name.endswith(".localhost"):
            raise ForbiddenError(
                f"host: {name[:64]!r} is no name of this machine alone; without users only "
                "localhost is served: make an admin with `twonines users add`"
            ) from None


async def _refuse(exc: TwoninesError, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": str(exc)[:100]})
        return
    wants_page = "text/html" in Headers(scope=scope).get("accept", "")
    if isinstance(exc, LoginError) and wants_page and scope["method"] == "GET":
        answer: Response = RedirectResponse("/login", 303)
    elif isinstance(exc, RoleError) and wants_page and scope["method"] == "GET":
        answer = refused_page(Request(scope), exc)
    else:
        answer = error_answer(Request(scope), exc)
    await answer(scope, receive, send)
