"""Write rows as .parquet, .csv or .jsonl."""

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from twonines.errors import InputError, SettingsError

SUFFIXES = (".parquet", ".csv", ".jsonl")
_SIGNS = "=+@\uff1d\uff0b\uff0d\uff20-"
_BEGINS = re.compile(rf"[\t\r\n]|\s*[{_SIGNS}]")
_BEGINS_WITHIN = re.compile(rf"(?<=[;\t|\r\n])([\s\"]*)(?=[{_SIGNS}])")
"""Where the comma is no separator, a quote within a line is none either, and these split it."""


def check_table(out: Path) -> None:
    """Make the table's folder.

    Raises:
        InputError: no such table can be written there.
    """
    if out.suffix not in SUFFIXES:
        raise SettingsError(f"out: must end in {', '.join(SUFFIXES)}, got {out.name!r}")
    if out.suffix == ".parquet":
        load_pyarrow()
    if out.is_dir():
        raise SettingsError(f"out: must be a file, got the folder {out}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise SettingsError(f"out: {out.parent} must be a folder ({exc.strerror or exc})") from exc


def write_table(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """Write the table whole or not at all."""
    partial = out.with_name(out.name + ".tmp")
    if out.suffix == ".parquet":
        pyarrow = load_pyarrow()
        kinds = {
            "score": pyarrow.float64(),
            "novelty": pyarrow.float64(),
            "regions": pyarrow.int64(),
        }
        schema = pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in rows[0]])
        table = pyarrow.Table.from_pylist(list(rows), schema=schema)
        pyarrow.parquet.write_table(table, partial)
    elif out.suffix == ".jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        partial.write_text(text, encoding="utf-8")
    else:
        buffer = io.StringIO(newline="")
        csv_writer(buffer, list(rows[0]))(rows)
        partial.write_bytes(buffer.getvalue().encode("utf-8"))
    os.replace(partial, out)


def csv_writer(
    stream: TextIO, columns: Sequence[str]
) -> Callable[[Iterable[Mapping[str, Any]]], None]:
    """Write the header of a table, and give what writes its rows.

    Text that a spreadsheet would run as a formula gets an apostrophe in front of it, by
    https://owasp.org/www-community/attacks/CSV_Injection: at the beginning of a cell, and where a
    cell would begin for who splits the file at semicolons, tabs or bars. Numbers stay as they are.
    """
    writer = csv.DictWriter(stream, columns)
    writer.writeheader()

    def write(rows: Iterable[Mapping[str, Any]]) -> None:
        writer.writerows({name: _harmless(value) for name, value in row.items()} for row in rows)

    return write


def _harmless(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = _BEGINS_WITHIN.sub(r"\1'", value)
    return "'" + text if _BEGINS.match(value) else text


def load_pyarrow(argument: str = "out") -> Any:
    """The package that writes .parquet, which ``argument`` asks for.

    Raises:
        InputError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as exc:
        raise InputError(f"{argument}: parquet needs pip install 'twonines[parquet]'") from exc
    return pyarrow
