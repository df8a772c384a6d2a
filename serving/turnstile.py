"""Turns away what an overloaded service has no time for, before anything else is done for it."""

import re
import time
from collections.abc import Callable

from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from twonines.errors import OverloadedError, TwoninesError
from twonines.serving.intake import is_form, read_timeout_s
from twonines.serving.metrics import Metrics
from twonines.serving.middleware import INSPECT_PATH, reject
from twonines.serving.roster import Roster
from twonines.settings import ServeSettings

_INFER = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")


class Turnstile:
    """Refuses pictures that would wait too long.

    Login, routes and what an endpoint does beforehand cost more than the refusal itself; at several
    times the load that the service can take, they would take the processor from the pictures that
    were let in. Who is refused so need not have logged in, and learns only that the service is
    busy. Whatever else speaks against a request is told by its route, to those who may know it.
    """

    def __init__(
        self, app: ASGIApp, *, models: Callable[[], Roster], settings: ServeSettings,
        metrics: Metrics,
    ) -> None:  # fmt: skip
        """Wrap ``app``."""
        self._app, self._models, self._settings, self._metrics = app, models, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or refuse it."""
        try:
            if scope["type"] == "http" and scope["method"] == "POST":
                self._look(scope)
        except OverloadedError as exc:
            await reject(Request(scope), exc, self._metrics)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _look(self, scope: Scope) -> None:
        start, path = time.perf_counter(), scope["path"]
        infer = None if path == INSPECT_PATH else _INFER.fullmatch(path)
        if path != INSPECT_PATH and infer is None:
            return
        headers = Headers(scope=scope)
        try:
            deadline = start + read_timeout_s(headers, self._settings)
            if infer:
                self._models().admit(infer[1], deadline, version=infer[2])
            else:
                name = QueryParams(scope["query_string"]).get("model")
                self._models().admit(name, deadline, is_form=is_form(headers))
        except OverloadedError:
            raise
        except TwoninesError:
            return
