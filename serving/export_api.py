"""Records over HTTP as a file to download."""

from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Annotated, Any, Final, Literal

from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from twonines.errors import InputError
from twonines.serving.record_filters import check_names, read_filters
from twonines.serving.store.coco import coco_chunks
from twonines.serving.store.export import Tally, table_chunks
from twonines.serving.store.query import Filters
from twonines.serving.store.records import Records

Format = Literal["parquet", "csv", "coco"]
_FILES: Final[dict[Format, tuple[str, str]]] = {
    "parquet": ("application/vnd.apache.parquet", "inspections.parquet"),
    "csv": ("text/csv", "inspections.csv"),
    "coco": ("application/zip", "inspections-coco.zip"),
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {kind: {} for kind, _ in _FILES.values()},
        "description": "the file; a connection that is cut before its end says that it failed",
    },
    503: {"description": "nothing is recorded here, or the store does not work"},
}


class _Download(StreamingResponse):
    """Streams what a thread makes; at the end, also of a client that leaves, that is closed."""

    def __init__(self, first: bytes, rest: Generator[bytes, None, None], kind: Format) -> None:
        media_type, name = _FILES[kind]
        headers = {
            "Content-Disposition": f'attachment; filename="{name}"',
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "private, no-cache",
        }
        super().__init__(_joined(first, rest), media_type=media_type, headers=headers)
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            # A server that ends at once leaves a thread in it, which will close it then.
            with suppress(ValueError):
                self._rest.close()


def _joined(first: bytes, rest: Generator[bytes, None, None]) -> Generator[bytes, None, None]:
    yield first
    yield from rest


def add_export(app: FastAPI, records: Callable[[], Records]) -> None:
    """Add the route to ``app``."""

    @app.get(
        "/v1/inspections/export",
        tags=["records"],
        response_class=StreamingResponse,
        responses=_RESPONSES,
    )
    async def export(
        request: Request,
        kind: Annotated[Format, Query(alias="format", description="coco comes as .zip.")],
        filters: Annotated[Filters, Depends(read_filters)],
        all_labels: Annotated[
            bool, Query(description="COCO: the model's own verdict where nobody has decided.")
        ] = False,
    ) -> _Download:
        """All inspections that meet the filters, oldest first; COCO is to teach a model from."""
        check_names(request, "format", "all_labels")
        if all_labels and kind != "coco":
            raise InputError(f"all_labels: must be left out unless format is coco, got {kind}")
        if kind == "coco":
            chunks = coco_chunks(records(), filters, Tally(), all_labels=all_labels)
        else:
            chunks = table_chunks(records(), filters, kind, Tally())
        # Before anything is answered: a store that does not work is still a plain 503.
        first = await run_in_threadpool(next, chunks, b"")
        return _Download(first, chunks, kind)
