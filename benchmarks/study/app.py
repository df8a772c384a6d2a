"""The page and its small interface; everything comes from here, nothing from the network."""

import importlib.resources
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from twonines.benchmarks.study.desk import Desk
from twonines.errors import SettingsError, TwoninesError
from twonines.serving.protocol import bounded_protocol
from twonines.serving.server import is_loopback, listen

log = logging.getLogger(__name__)
_MAX_BODY = 16 * 1024
_BODY_S = 30.0
_NO_STORE = {"Cache-Control": "no-store"}
_POLICY = (
    "default-src 'none'; img-src blob: data:; connect-src 'self'; "
    "script-src 'unsafe-inline'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)


Pixel = Annotated[float, Field(ge=0, lt=1_000_000)]
"""A coordinate in pixels of the picture."""


class AnswerIn(BaseModel):
    """What the page sends for a look."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    inspector: str
    picture: str
    repeat: int
    answer: Literal["OK", "NG"]
    seconds: float = Field(gt=0, lt=86_400)
    mark: tuple[Pixel, Pixel] | None = None
    interrupted: bool = False


def create_study_app(desk: Desk) -> FastAPI:
    """The service of one study."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    page = importlib.resources.files(__package__).joinpath("page.html").read_text("utf-8")

    @app.exception_handler(TwoninesError)
    def ours(_: Request, exc: TwoninesError) -> JSONResponse:
        return JSONResponse({"error": str(exc)}, exc.status, headers=_NO_STORE)

    # Not FastAPI's own: that sends the input back, however large, and fails on NaN.
    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, exc: RequestValidationError) -> JSONResponse:
        first = exc.errors()[0]
        place = ".".join(map(str, first["loc"]))
        return JSONResponse({"error": f"{place}: {first['msg']}"}, 422, headers=_NO_STORE)

    @app.exception_handler(OSError)
    def disk(_: Request, exc: OSError) -> JSONResponse:
        log.error("an answer or a picture failed: %s", exc)
        text = "the disk of the service failed; the answer was not kept"
        return JSONResponse({"error": text}, 507, headers=_NO_STORE)

    # Plain functions run in a thread of their own: reading and writing may wait.
    @app.get("/")
    def index() -> HTMLResponse:
        return HTMLResponse(page, headers={**_NO_STORE, "Content-Security-Policy": _POLICY})

    @app.get("/api/study")
    def study() -> JSONResponse:
        return JSONResponse({"inspectors": desk.plan.inspectors}, headers=_NO_STORE)

    @app.get("/api/state")
    def state(inspector: str) -> JSONResponse:
        return JSONResponse(desk.state(inspector), headers=_NO_STORE)

    @app.get("/api/picture")
    def picture(inspector: str, picture: str, repeat: int) -> Response:
        data = desk.picture(inspector, picture, repeat)
        return Response(data, media_type="image/png", headers=_NO_STORE)

    @app.post("/api/looks", max_body_size=_MAX_BODY)
    def looks(given: AnswerIn) -> JSONResponse:
        after: dict[str, Any] = desk.answer(
            given.inspector, given.picture, given.repeat, given.answer, given.seconds,
            given.mark, given.interrupted,
        )  # fmt: skip
        return JSONResponse(after, headers=_NO_STORE)

    return app


def serve_study(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    insecure_no_login: bool = False,
    tell: Callable[[str], None],
) -> None:
    """Serve a study until a signal.

    Args:
        folder: where the plan is.
        host: address to listen on; 0.0.0.0 lets tablets in the same network take part.
        port: 0 takes any free one.
        insecure_no_login: must be true for an address that other machines reach: whoever does can
            answer in anybody's name.
        tell: told the address.

    Raises:
        InputError: plan, answers or a picture are not what they must be.
        SettingsError: the port cannot be used, or another process runs this study; or the host is
            not loopback, and that was not said to be meant.
    """
    if not insecure_no_login and not is_loopback(host):
        raise SettingsError(
            f"host: {host} is reached from other machines, and the page asks for no login; start "
            "with --insecure-no-login where only those who take part can reach it"
        )
    desk = Desk(folder)
    try:
        server = uvicorn.Server(
            uvicorn.Config(
                create_study_app(desk),
                access_log=False,
                log_level="warning",
                http=bounded_protocol(_BODY_S),
            )
        )
        with listen(host, port) as listener:
            address = listener.getsockname()
            tell(f"study of {len(desk.plan.pictures)} pictures at http://{host}:{address[1]}")
            try:
                server.run(sockets=[listener])
            except KeyboardInterrupt:
                pass
    finally:
        desk.close()
