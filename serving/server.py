"""Run the service."""

import asyncio
import gc
import ipaddress
import logging
import math
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from twonines.errors import NotReadyError, SettingsError
from twonines.models.session import InspectionSession
from twonines.serving import backlog
from twonines.serving.app import create_app
from twonines.serving.logs import configure_logs
from twonines.serving.model_files import ModelFolder
from twonines.serving.people.accounts import can_enter
from twonines.serving.protocol import BoundedProtocol, bounded_protocol
from twonines.serving.references import open_references
from twonines.serving.roster import check_names
from twonines.serving.service import Service
from twonines.serving.store.database import Database
from twonines.serving.watch import check_watch_state
from twonines.settings import ServeSettings

log = logging.getLogger(__name__)
_SWITCH_S = 0.0005
_TICK_S = 0.02
_HANDSHAKE_S = 0.2
_ACCEPT_S = 5.0
_SILENCE_S = 1.0


class DrainingServer(uvicorn.Server):
    """Goes out of service before it ends: /readyz says 503 first, while all is still answered.

    In the delay each answer closes its connection, and whoever balances the load turns away. At its
    end uvicorn would reset what waits to be accepted and close what has sent no request yet: both
    are heard first. A second signal ends at once, without the delay and without hearing them.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, delay_s: float) -> None:
        """End ``delay_s`` after the first signal, or at the second."""
        super().__init__(config)
        self._service, self._delay_s = app.state.service, delay_s
        self._signal: int | None = None
        self._is_hurried = False
        self._end = math.inf

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal."""
        self._is_hurried = self._service.draining
        self._service.draining = True
        if self._signal is None and self._delay_s:
            self._signal, self._end = sig, time.monotonic() + self._delay_s
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second; true ends the service."""
        if self._signal is not None and time.monotonic() >= self._end:
            self._end = math.inf
            super().handle_exit(self._signal, None)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, hear those that there are, answer and end."""
        self._service.draining = True
        await self._empty_backlog(sockets or [])
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        await self._hear_silent()
        await super().shutdown(sockets)

    async def _empty_backlog(self, listeners: Sequence[socket.socket]) -> None:
        # One of them takes a turn of the loop with uvloop, so that dozens may wait under load.
        for listener in listeners:
            backlog.take_no_more(listener)
        start = time.monotonic()
        # For handshakes that are half done: to the client its connection is made before it is here.
        await self._wait_while(lambda: True, start + _HANDSHAKE_S)
        while not all(map(backlog.is_empty, listeners)) and not self._is_hurried:
            if time.monotonic() > start + _ACCEPT_S:
                log.warning("connections that waited to be accepted are reset")
                return
            await asyncio.sleep(0)
        for _ in range(3):  # turns in which asyncio makes a connection of what was accepted last
            await asyncio.sleep(0)

    async def _hear_silent(self) -> None:
        """Wait for the requests of open connections that have sent none, or none again."""
        await self._wait_while(self._has_silent, time.monotonic() + _SILENCE_S)

    async def _wait_while(self, holds: Callable[[], bool], end: float) -> None:
        while holds() and time.monotonic() < end and not self._is_hurried:
            await asyncio.sleep(_TICK_S)

    def _has_silent(self) -> bool:
        connections = self.server_state.connections
        return any(isinstance(one, BoundedProtocol) and one.is_silent for one in connections)


def run_server(settings: ServeSettings) -> None:
    """Serve until a signal; requests that were taken are answered first.

    After the signal ``/readyz`` is 503; ``drain_delay_s`` later no more connections are taken, and
    those that there are have a second to send a request.

    Raises:
        ModelFileError: the file is not a model; nothing is served.
        SettingsError: the host, port, execution provider, references or ``watch_state`` cannot be
            used.
        NotReadyError: the service did not come up.
    """
    # What cannot be used ends the command with a plain message, before anything is loaded.
    check_watch_state(settings)
    if settings.model is None:
        assert settings.model_dir is not None
        files = ModelFolder(settings.model_dir)
        files.read_state()
        check_names(files.scan(), settings)
    else:
        _check_model(settings, settings.model)
    configure_logs(settings.log_format)
    # A thread that runs Python holds the interpreter for so long; the default of 5 ms would let
    # the event loop, which must refuse within 10 ms, wait behind two of them.
    sys.setswitchinterval(_SWITCH_S)
    _allow_connections()
    app = create_app(settings)
    service: Service = app.state.service
    try:
        # Before the loop runs, so that what cannot be used ends the command with a plain message.
        service.open_store()
        check_login(settings, service.database)
        _serve(settings, app)
    finally:
        service.stop()


def _serve(settings: ServeSettings, app: FastAPI) -> None:
    # The slowest request that may still be on its way: uploaded to the last second, then inspected.
    patience_s = math.ceil(settings.upload_timeout_s + settings.request_timeout_s) + 5
    config = uvicorn.Config(
        app, http=bounded_protocol(settings.upload_timeout_s), access_log=False, log_config=None,
        timeout_graceful_shutdown=patience_s,
        # Uvicorn trusts what this machine says of others, unless it is told not to.
        proxy_headers=settings.trusted_proxies is not None,
        forwarded_allow_ips=settings.trusted_proxies or "",
    )  # fmt: skip
    server = DrainingServer(config, app, settings.drain_delay_s)
    # Modules, routes and schemas stay to the end; a full collection, which looked at them under
    # load, held every thread for a tenth of a second. Models come later: an unloaded one must go.
    gc.collect()
    gc.freeze()
    with listen(settings.host, settings.port) as listener, suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    if not server.started:
        raise NotReadyError("the service did not start; the log says why")


def _allow_connections() -> None:
    """As many open files as this process may ever have: each connection is one."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(OSError, ValueError):  # some systems name a limit that they do not grant
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _check_model(settings: ServeSettings, model: Path) -> None:
    # Loaded once before, so that a bad file or a provider that cannot be had ends the command
    # with a plain message. What auto measures is left to the service: it needs the CPU only.
    provider = settings.execution_provider
    session = InspectionSession.load(
        model,
        execution_provider="cpu" if provider == "auto" else provider,
        threads=settings.threads,
    )
    open_references(settings, session.card)


def check_login(settings: ServeSettings, database: Database | None) -> None:
    """Refuse to be reached from other machines where nobody could log in.

    Args:
        settings: of the service.
        database: its own; None where it has none.

    Raises:
        SettingsError: that is so; it names the command that makes the first admin.
    """
    if settings.insecure_no_login or is_loopback(settings.host):
        return
    if database is not None:
        database.migrate_once()
        if can_enter(database):
            return
    raise SettingsError(
        f"host: {settings.host} is reached from other machines, so people must log in, and there "
        "is nobody yet: make the first admin with `twonines users add NAME --role admin --data-dir "
        f"{settings.data_dir or 'DIR'}` and serve with that --data-dir, or start with "
        "--insecure-no-login to let whoever reaches it do everything"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it; a host that cannot be resolved is told by listen."""
    try:
        address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0]
        return ipaddress.ip_address(address).is_loopback
    except (OSError, ValueError):
        return False


def listen(host: str, port: int) -> socket.socket:
    """Bind now: between a probe and the service's own bind another could take the port."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as exc:
        raise SettingsError(f"host: {host} cannot be used ({exc.strerror or exc})") from exc
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(2048)  # else a second service could bind the port as well
    except OSError as exc:
        listener.close()
        raise SettingsError(f"port: {host}:{port} cannot be used ({exc.strerror})") from exc
    log.info("listening on http://%s:%d", *listener.getsockname()[:2])
    return listener
