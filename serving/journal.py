"""The journal of a scoring run: a header, then a row for every file in order."""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from twonines.errors import InputError, SettingsError
from twonines.types import Verdict

COLUMNS = (
    "path",
    "verdict",
    "score",
    "class",
    "novelty",
    "regions",
    "reasons",
    "certificate",
    "error",
)
_VERDICTS = frozenset(verdict.value for verdict in Verdict)
_START_AGAIN = "score with --fresh to start again"


def shown(path: Path) -> str:
    """The path as a table shows it: text, whatever bytes the name holds."""
    return str(path).encode("utf-8", "replace").decode("utf-8")


def lines(journal: Path) -> list[str]:
    """Whole lines; one that was torn by a kill is left out, and none are there without a file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        data = journal.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise InputError(f"out: {journal} must be a readable journal ({exc.strerror})") from exc
    # Not splitlines: names may hold other characters that it takes for line ends.
    return data.decode("utf-8", "replace").split("\n")[:-1]


def read_header(journal: Path) -> dict[str, Any]:
    """First line of an interrupted run's journal; empty where there is none.

    Raises:
        InputError: it is something else.
    """
    found = lines(journal)
    if not found:
        return {}
    header = _parse(found[0])
    size = header.get("batch_size") if isinstance(header, dict) else None
    if not isinstance(header, dict) or type(size) is not int or size < 1:
        raise _refusal(journal, "a first line with a batch_size of at least 1", found[0])
    return header


def open_journal(
    journal: Path, header: dict[str, Any], paths: Sequence[Path], resume: bool
) -> list[dict[str, Any]]:
    """Rows that an interrupted run has left; starts the journal where there is none.

    Raises:
        InputError: the journal is of another run, or not such as a run writes.
        SettingsError: the journal cannot be written.
    """
    found = lines(journal) if resume else []
    if not found:
        _write(journal, [json.dumps(header)])
        return []
    before = read_header(journal)
    changed = sorted(key for key, value in header.items() if before.get(key) != value)
    if changed:
        raise InputError(
            f"out: {journal} is of an interrupted run with other {', '.join(changed)} "
            f"(files: by name, size and time of change); {_START_AGAIN}"
        )
    kept = found[1:]
    if len(kept) > len(paths):
        raise _refusal(journal, f"at most {len(paths)} rows", f"{len(kept)} rows")
    if len(kept) < len(paths):  # whole batches only, so that every batch is what it was
        kept = kept[: len(kept) - len(kept) % int(header["batch_size"])]
    rows = [_row(journal, line, path) for line, path in zip(kept, paths, strict=False)]
    _write(journal, [found[0], *kept])
    return rows


def _row(journal: Path, line: str, path: Path) -> dict[str, Any]:
    row = _parse(line)
    if not isinstance(row, dict) or not _is_row(row) or row["path"] != shown(path):
        raise _refusal(journal, f"the row of {shown(path)!r} at its place", line)
    return row


def _is_row(row: dict[str, Any]) -> bool:
    if tuple(row) != COLUMNS or row["verdict"] not in _VERDICTS:
        return False
    figures = (row["score"], row["novelty"])
    return (
        all(value is None or type(value) in (int, float) for value in figures)
        and type(row["regions"]) is int
        and (row["class"] is None or isinstance(row["class"], str))
        and isinstance(row["reasons"], str)
        and isinstance(row["certificate"], str)
        and isinstance(row["error"], str)
    )


def _parse(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _refusal(journal: Path, wanted: str, came: str) -> InputError:
    return InputError(f"out: {journal} must hold {wanted}, got {came[:80]!r}; {_START_AGAIN}")


def _write(journal: Path, text: Sequence[str]) -> None:
    partial = journal.with_name(journal.name + ".tmp")
    try:
        partial.write_text("".join(line + "\n" for line in text), encoding="utf-8")
        os.replace(partial, journal)
    except OSError as exc:
        with suppress(OSError):  # of a folder that takes no files it must not hide the reason
            partial.unlink(missing_ok=True)
        raise SettingsError(f"out: {journal} must be writable ({exc.strerror or exc})") from exc
