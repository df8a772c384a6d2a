"""Records as a table, file or stream."""

import io
import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from twonines.errors import SettingsError
from twonines.serving.store.entries import Recorded
from twonines.serving.store.query import Filters
from twonines.serving.store.records import Records
from twonines.serving.tables import check_table, csv_writer, load_pyarrow

_NUMBERS = ("score", "novelty")
_ROWS = 5000


@dataclass(slots=True)
class Tally:
    """What an export has written so far; ``left_out`` are pictures that are not kept."""

    count: int = 0
    left_out: int = 0


def export_table(records: Records, filters: Filters, out: Path) -> int:
    """Write a .csv or .parquet with one row for each inspection, oldest first.

    Returns:
        How many rows there are.

    Raises:
        InputError: the table cannot be written there.
        StoreError: the database does not work.
    """
    kind = out.suffix.removeprefix(".")
    if kind not in TABLES:
        raise SettingsError(f"out: must end in .csv or .parquet, got {out.name!r}")
    check_table(out)
    partial, tally = out.with_name(out.name + ".tmp"), Tally()
    with partial.open("wb") as file:
        file.writelines(table_chunks(records, filters, kind, tally))
    os.replace(partial, out)
    return tally.count


def table_chunks(
    records: Records, filters: Filters, kind: str, tally: Tally
) -> Generator[bytes, None, None]:
    """The bytes of a table of a kind in ``TABLES``, some thousand rows at a time, oldest first.

    In CSV, text that a spreadsheet would run as a formula gets an apostrophe in front.

    Raises:
        InputError: the package that writes this kind is not installed.
        StoreError: the database does not work.
    """
    yield from TABLES[kind](_batched_rows(records.iterate(filters), tally))


def _batched_rows(found: Iterable[Recorded], tally: Tally) -> Iterator[list[dict[str, Any]]]:
    """Rows of a table, some thousand at a time; lists and mappings are JSON."""
    rest = iter(found)
    while rows := [_flat(one.public()) for one in islice(rest, _ROWS)]:
        tally.count += len(rows)
        yield rows


def _flat(told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
        for name, value in told.items()
    }


def _columns() -> list[str]:
    fields = list(Recorded.__dataclass_fields__)
    empty = Recorded(**{name: 0 for name in fields})  # type: ignore[arg-type]
    return list(empty.public())


class Sink(io.RawIOBase):
    """Keeps what is written until it is taken; where a writer wants a file."""

    def __init__(self) -> None:
        """It is empty."""
        self._pieces: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Bytes written so far."""
        return self._size

    def write(self, data: Any) -> int:
        """Keep a copy."""
        piece = bytes(data)
        self._pieces.append(piece)
        self._size += len(piece)
        return len(piece)

    def take(self) -> bytes:
        """What was written since the last time."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def _csv(batches: Iterable[list[dict[str, Any]]]) -> Iterator[bytes]:
    sink = Sink()
    text = io.TextIOWrapper(io.BufferedWriter(sink), encoding="utf-8", newline="")
    write = csv_writer(text, _columns())
    for rows in batches:
        write(rows)
        text.flush()
        yield sink.take()
    text.flush()
    yield sink.take()  # the header, where there are no rows


def _parquet(batches: Iterable[list[dict[str, Any]]]) -> Iterator[bytes]:
    pyarrow = load_pyarrow("format")
    kinds = dict.fromkeys(_NUMBERS, pyarrow.float64()) | {"due": pyarrow.int64()}
    schema = pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in _columns()])
    sink = Sink()
    with pyarrow.parquet.ParquetWriter(sink, schema) as writer:
        for rows in batches:
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
            yield sink.take()
    yield sink.take()


TABLES: Final[dict[str, Callable[[Iterable[list[dict[str, Any]]]], Iterator[bytes]]]] = {
    "csv": _csv,
    "parquet": _parquet,
}
