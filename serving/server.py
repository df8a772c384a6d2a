"""Run the service."""

import logging
import socket
from contextlib import suppress

import uvicorn

from twonines.errors import NotReadyError, SettingsError
from twonines.models.session import InspectionSession
from twonines.serving.app import create_app
from twonines.settings import ServeSettings

log = logging.getLogger(__name__)


def run_server(settings: ServeSettings) -> None:
    """Serve until a signal; requests that were taken are answered first.

    Raises:
        ModelFileError: the file is not a model; nothing is served.
        SettingsError: the host, port or execution provider cannot be used.
        NotReadyError: the service did not come up.
    """
    # Loaded once before, so that a bad file or a provider that cannot be had ends the command
    # with a plain message. What auto measures is left to the service: it needs the CPU only.
    provider = settings.execution_provider
    InspectionSession.load(
        settings.model,
        execution_provider="cpu" if provider == "auto" else provider,
        threads=settings.threads,
    )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    server = uvicorn.Server(
        uvicorn.Config(create_app(settings), access_log=False, timeout_graceful_shutdown=30)
    )
    with _listen(settings.host, settings.port) as listener, suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    if not server.started:
        raise NotReadyError("the service did not start; the log says why")


def _listen(host: str, port: int) -> socket.socket:
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
