"""Turns away what an overloaded service has no time for, before anything else is done for it."""

import time
from collections.abc import Callable

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from twonines.errors import NotReadyError, OverloadedError
from twonines.serving.metrics import Metrics
from twonines.serving.middleware import brings_pictures, reject
from twonines.serving.roster import Roster

_BUSY = "queue: no model has room for a picture now, or would answer it in time"


class Turnstile:
    """Refuses pictures while every model would refuse them.

    Login, routes and what an endpoint does beforehand cost more than the refusal itself; at several
    times the load that the service can take, they would take the processor from the pictures that
    were let in. So nothing of the request is looked at but its path: who is refused need not have
    logged in, and must learn no more than that the service is busy.
    """

    def __init__(
        self, app: ASGIApp, *, models: Callable[[], Roster], timeout_s: float, metrics: Metrics
    ) -> None:
        """Wrap ``app``.

        Args:
            app: what is spared.
            models: what may be full.
            timeout_s: the longest that any request may take.
            metrics: counts what is refused.
        """
        self._app, self._models = app, models
        self._timeout_s, self._metrics = timeout_s, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or refuse it."""
        overload = self._find_overload(scope)
        if overload is None:
            await self._app(scope, receive, send)
        else:
            busy = OverloadedError(_BUSY, overload.retry_after_s)
            await reject(Request(scope), busy, self._metrics)(scope, receive, send)

    def _find_overload(self, scope: Scope) -> OverloadedError | None:
        if scope["type"] != "http" or not brings_pictures(scope):
            return None
        try:
            models = self._models()
        except NotReadyError:
            return None
        return models.find_overload(time.perf_counter() + self._timeout_s)
