"""Run the service."""

import logging
import socket

import uvicorn

from twonines.errors import SettingsError
from twonines.models.session import InspectionSession
from twonines.serving.app import create_app
from twonines.settings import ServeSettings


def run_server(settings: ServeSettings) -> None:
    """Serve until a signal; requests that were taken are answered first.

    Raises:
        ModelFileError: the file is not a model; nothing is served.
        SettingsError: the port is taken.
    """
    # Loaded once before, so that a bad file ends the command with a plain message.
    InspectionSession.load(settings.model, execution_provider="cpu")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as exc:
            raise SettingsError(
                f"port: {settings.host}:{settings.port} cannot be used ({exc.strerror})"
            ) from exc
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        access_log=False,
        timeout_graceful_shutdown=30,
    )
