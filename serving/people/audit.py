"""The audit log: append-only, each record chained to the one before by its digest.

A record's digest is the SHA-256 of its canonical JSON, which holds the digest of the record before
it (as in RFC 6962's purpose, with a plain chain in place of a tree, for the log is read as a
whole). So a record that was changed does not fit its digest, and one that was removed, inserted or
rewritten with a fresh digest does not fit its neighbour. Triggers in the database refuse changes to
begin with. Who can write the file can take out the triggers and hash the rest anew: only a head
that is kept elsewhere, the anchor, shows that.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select, update

from twonines.errors import InputError
from twonines.serving.people.clock import Clock, now_us
from twonines.serving.people.tables import AUDIT, AUDIT_HEAD
from twonines.serving.store.database import Database

FIRST = "0" * 64
"""What the first record has as the digest before it."""
MAX_SEQ = 2**63 - 1
"""The largest number that a record can have, since databases count no further."""
_MAX_SUBJECT = 300
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the log."""

    seq: int
    digest: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found; ``seq`` is the first record that is not as it was written."""

    records: int
    head: Head
    seq: int | None = None
    fault: str | None = None

    @property
    def is_sound(self) -> bool:
        """Whether nothing was found."""
        return self.fault is None


class Audit:
    """Safe from any thread and process: the row of the head is locked while a record is added."""

    def __init__(self, database: Database, clock: Clock = now_us) -> None:
        """Use the database, whose tables must be there."""
        self._database, self._clock = database, clock

    def append(
        self, actor: str, action: str, subject: str, details: Mapping[str, Any] | None = None
    ) -> int:
        """Add a record and give its number; it is on disk when this returns.

        Args:
            actor: who, as :attr:`twonines.serving.people.roles.Person.actor`.
            action: what, such as ``model.activate``.
            subject: on what, such as ``cell/3``; cut after 300 characters.
            details: what else is to be known, as JSON.
        """
        with self._database.writing() as connection:
            return self.append_in(connection, actor, action, subject, details)

    def append_in(
        self,
        connection: Connection,
        actor: str,
        action: str,
        subject: str,
        details: Mapping[str, Any] | None = None,
    ) -> int:
        """As :meth:`append`, in a transaction of the caller: both are kept, or neither."""
        # A write comes first: it takes the lock, and what is read then is the newest.
        head = connection.execute(
            update(AUDIT_HEAD)
            .values(seq=AUDIT_HEAD.c.seq + 1)
            .returning(AUDIT_HEAD.c.seq, AUDIT_HEAD.c.digest)
        ).one()
        values = {
            "seq": head.seq,
            "time_us": self._clock(),
            "actor": _plain(actor),
            "action": action,
            "subject": _plain(subject),
            "details": canonical(details or {}),
            "previous": head.digest,
        }
        digest = _digest(values)
        connection.execute(insert(AUDIT).values(**values, digest=digest))
        connection.execute(update(AUDIT_HEAD).values(digest=digest))
        return int(head.seq)

    def hold(self, connection: Connection) -> None:
        """Take the log's lock for the rest of a transaction: what is read then is the newest."""
        connection.execute(update(AUDIT_HEAD).values(seq=AUDIT_HEAD.c.seq))

    def head(self) -> Head:
        """The number and digest of the last record; 0 and zeros where there is none."""
        with self._database.reading() as connection:
            return _head(connection)

    def verify(self, anchor: Head | None = None) -> Finding:
        """Walk the whole log, and say where it is first not as it was written.

        Args:
            anchor: a head that was kept elsewhere; the log must still hold it.
        """
        with self._database.reading() as connection:
            known = [_head(connection)] + ([anchor] if anchor else [])
            return _walk(connection, known)

    def newest(self, limit: int = 100, before: int | None = None) -> list[dict[str, Any]]:
        """Records, newest first, from before a number on."""
        wanted = select(AUDIT).order_by(AUDIT.c.seq.desc()).limit(limit)
        if before is not None:
            wanted = wanted.where(AUDIT.c.seq < before)
        with self._database.reading() as connection:
            return [_told(row) for row in connection.execute(wanted).mappings()]


def _walk(connection: Connection, known: Sequence[Head]) -> Finding:
    """Read every record; ``known`` are heads that the log must hold, its own first."""
    last = Head(0, FIRST)
    for row in _rows(connection):
        fault = _fault(row, last) or _unlike(known, row)
        if fault:
            return Finding(last.seq, last, min(row["seq"], last.seq + 1), fault)
        last = Head(row["seq"], row["digest"])
    end = _head(connection)  # others may have written since
    if last.seq > end.seq:
        fault = f"was inserted: the log ends with record {end.seq}"
        return Finding(last.seq, last, end.seq + 1, fault)
    furthest = max(head.seq for head in known)
    if furthest > last.seq:
        fault = f"is missing: the log held record {furthest}"
        return Finding(last.seq, last, last.seq + 1, fault)
    return Finding(last.seq, last)


def _fault(row: RowMapping, last: Head) -> str | None:
    if row["seq"] <= 0:
        return "was inserted: records are counted from 1 on"
    if row["seq"] != last.seq + 1:
        return f"is missing: the next record is {row['seq']}"
    if _digest(dict(row)) != row["digest"]:
        return "was changed: it does not fit its digest"
    if row["previous"] != last.digest:
        return (
            "does not follow the record before: one of the two was replaced, or others stood "
            "between them"
        )
    return None


def _unlike(known: Sequence[Head], row: RowMapping) -> str | None:
    if any(head.seq == row["seq"] and head.digest != row["digest"] for head in known):
        return "is another than a head of the log holds: it, or what is before it, was rewritten"
    return None


def _rows(connection: Connection) -> Iterator[RowMapping]:
    result = connection.execution_options(yield_per=_PAGE).execute(
        select(AUDIT).order_by(AUDIT.c.seq)
    )
    yield from result.mappings()


def _head(connection: Connection) -> Head:
    row = connection.execute(select(AUDIT_HEAD)).one_or_none()
    # Without its row nothing says where the log ended: whatever it holds is then one too many.
    return Head(row.seq, row.digest) if row else Head(0, FIRST)


def canonical(values: Mapping[str, Any]) -> str:
    """JSON in one spelling: sorted keys, no spaces, ASCII."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(row: Mapping[str, Any]) -> str:
    values = {name: row[name] for name in AUDIT.c.keys() if name != "digest"}
    return hashlib.sha256(canonical(values).encode()).hexdigest()


def _plain(text: str) -> str:
    """What no terminal or database chokes on: no control characters, no lone surrogates."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text[:_MAX_SUBJECT])


def _told(row: RowMapping) -> dict[str, Any]:
    try:
        details = json.loads(row["details"])
    except ValueError:  # it was changed; the check says so, the list must not fail
        details = row["details"]
    return {**row, "details": details}


def read_anchor(path: Path) -> Head | None:
    """The head that a file holds; None where there is no file yet.

    Raises:
        InputError: it is no anchor.
    """
    try:
        values = json.loads(path.read_text("utf-8"))
        return Head(int(values["seq"]), str(values["digest"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise InputError(f"anchor: {path} must hold a head of the log ({exc})") from exc


def write_anchor(path: Path, head: Head) -> None:
    """Keep the head in a file, whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    fresh = path.with_name(path.name + ".new")
    try:
        with fresh.open("w", encoding="utf-8") as file:
            file.write(canonical(asdict(head)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as exc:
        raise InputError(f"anchor: {path} cannot be written ({exc})") from exc
