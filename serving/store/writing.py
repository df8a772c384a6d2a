"""Entries into rows and pictures, in one transaction."""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from twonines.errors import StoreError
from twonines.serving.store.counting import tally
from twonines.serving.store.database import Database, lock_pictures, upsert
from twonines.serving.store.entries import Entry
from twonines.serving.store.ids import now_us, time_us_of
from twonines.serving.store.pictures import PictureStore, digest_of
from twonines.serving.store.tables import inspections, pictures

_MANY = 500
"""Values of one IN; SQLite takes up to 32,766."""
_TRIED = 1 << 16
"""Bytes of a picture that is written to see whether it can be: as many as a small one has."""


def write_entries(database: Database, store: PictureStore, entries: Sequence[Entry]) -> None:
    """Write all of them, or nothing; they are on disk when it returns.

    Pictures are stored before the rows that name them, so that no row names one that is not there.

    Raises:
        StoreError: the database or the picture store does not work.
        ValueError: an entry cannot be stored, whatever the database does.
    """
    rows, blobs = [], dict[str, bytes]()
    for entry in entries:
        row = _row(entry)
        rows.append(row)
        if entry.keeps and entry.picture is not None:
            blobs[row["picture_digest"]] = entry.picture
            if entry.reference is not None:
                blobs[row["reference_digest"]] = entry.reference
    try:
        database.migrate_once()
        if blobs:
            with database.reading() as connection:
                missing = blobs.keys() - stored(connection, blobs)
            store.put({digest: blobs[digest] for digest in missing})
        with database.writing() as connection:
            if blobs:
                keep(connection, store, blobs)
            connection.execute(insert(inspections), rows)
            tally(connection, rows)
    except (DataError, IntegrityError) as exc:
        raise ValueError(str(exc.orig)) from exc
    except DBAPIError as exc:
        raise StoreError(f"database: {exc.orig}") from exc
    except StatementError as exc:
        raise ValueError(str(exc)) from exc


def try_to_write(database: Database, store: PictureStore | None) -> None:
    """Write a picture and a row, and take them away again; without a store the row alone.

    Raises:
        StoreError: the database or the picture store does not work.
    """
    data = secrets.token_bytes(_TRIED)  # no picture has this digest
    digest = digest_of(data)
    try:
        database.migrate_once()
        if store is not None:
            store.put({digest: data})
            store.delete(digest)
        with database.writing() as connection:
            row = {"digest": digest, "time_us": now_us(), "size": _TRIED}
            connection.execute(insert(pictures), row)
            connection.execute(delete(pictures).where(pictures.c.digest == digest))
    except DBAPIError as exc:
        raise StoreError(f"database: {exc.orig}") from exc


def keep(connection: Connection, store: PictureStore, blobs: dict[str, bytes]) -> None:
    """Note pictures as stored, in a transaction that writes.

    The lock keeps a purge away until the transaction ends; a picture that one has deleted just
    before is put back.
    """
    lock_pictures(connection, shared=True)
    fresh = blobs.keys() - stored(connection, blobs)
    store.put({digest: blobs[digest] for digest in fresh if not store.has(digest)})
    if fresh:
        now = now_us()
        rows = [
            {"digest": digest, "time_us": now, "size": len(blobs[digest])}
            for digest in sorted(fresh)
        ]
        connection.execute(upsert(connection, pictures).on_conflict_do_nothing(), rows)


def stored(connection: Connection, digests: Iterable[str]) -> set[str]:
    """Those of the digests whose pictures are in the store."""
    wanted, found = list(digests), set[str]()
    for first in range(0, len(wanted), _MANY):
        part = wanted[first : first + _MANY]
        query = select(pictures.c.digest).where(pictures.c.digest.in_(part))
        found.update(connection.scalars(query))
    return found


def _row(entry: Entry) -> dict[str, Any]:
    found = entry.inspection
    row = {
        "id": entry.id,
        "time_us": time_us_of(entry.id),
        "request_id": entry.request_id,
        **asdict(entry.place),
        "file": entry.file,
        "picture_digest": None if entry.picture is None else digest_of(entry.picture),
        "reference_digest": None if entry.reference is None else digest_of(entry.reference),
        "verdict": found.verdict.value,
        "score": found.score,
        "defect_class": found.defect_class,
        "class_scores": found.class_scores,
        "novelty": found.novelty,
        "regions": [asdict(region) for region in found.regions],
        "reasons": list(found.reasons),
        "error": found.error,
        "model_name": entry.model.name,
        "model_version": entry.model.version,
        "model_digest": entry.model.digest,
        "certificate": found.certificate,
        "execution_provider": entry.model.execution_provider,
        "timings_ms": dict(entry.timings_ms),
        "due": entry.reviewers,
        "decision": None,
        "decision_class": None,
    }
    return {key: _clean(value) for key, value in row.items()}


def _clean(value: Any) -> Any:
    """PostgreSQL takes no NUL in text."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value
