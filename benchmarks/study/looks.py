"""One row per look, in a CSV that only grows.

Columns: ``inspector``; ``picture`` (its id in the plan); ``repeat`` from 1; ``answer`` OK or NG;
``seconds`` from the picture on screen to the key, by the browser; ``server_seconds``, the longest
that it can have been by the server's clock; ``x`` and ``y`` of the mark in pixels of the picture;
``time`` in UTC; ``remark``; ``plan``, the plan's digest. Empty is not known.

``remark`` is ``interrupted`` where the page was hidden, paused or loaded anew, ``clock`` where
the browser's time is longer than the server's. Such a look counts for answers, not for times.
"""

import contextlib
import csv
import io
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import IO, Literal, cast

from twonines.benchmarks.study.plan import Plan, clean_name
from twonines.errors import InputError, SettingsError

Answer = Literal["OK", "NG"]
Remark = Literal["", "interrupted", "clock"]
LOOKS_FILE = "looks.csv"
COLUMNS = (
    "inspector", "picture", "repeat", "answer", "seconds", "server_seconds", "x", "y", "time",
    "remark", "plan",
)  # fmt: skip
_NEEDED = ("inspector", "picture", "answer", "seconds")
_REMARKS = ("", "interrupted", "clock")
_MOST_FAULTS = 10


@dataclass(frozen=True, slots=True)
class Look:
    """A look; fields as in the module's head."""

    inspector: str
    picture: str
    repeat: int
    answer: Answer
    seconds: float
    server_seconds: float | None = None
    x: float | None = None
    y: float | None = None
    time: str = ""
    remark: Remark = ""
    plan: str = ""

    @property
    def key(self) -> tuple[str, str, int]:
        """What may stand once: who, what, which time."""
        return self.inspector.casefold(), self.picture, self.repeat

    @property
    def timed(self) -> bool:
        """True where the seconds can be used."""
        return not self.remark

    def row(self) -> str:
        """The look as a line of CSV."""
        stream = io.StringIO()
        values = ["" if v is None else f"{v:.4f}" if isinstance(v, float) else v
                  for v in astuple(self)]  # fmt: skip
        csv.writer(stream, lineterminator="\n").writerow(values)
        return stream.getvalue()

    def to_json(self) -> dict[str, object]:
        """Plain types."""
        return asdict(self)


def parse_row(row: Mapping[str, str | None], plan: Plan, repeat: int | None = None) -> Look:
    """A row to a look.

    Args:
        row: by column.
        plan: knows the pictures, repeats and inspectors.
        repeat: where the row names none.

    Raises:
        InputError: a value is missing or not what the plan allows; the message names the column.
    """
    text = {key: (value or "").strip() for key, value in row.items() if key is not None}
    answer = text.get("answer", "").upper()
    if answer not in ("OK", "NG"):
        raise InputError(f"answer: must be OK or NG, got {text.get('answer', '')[:40]!r}")
    remark = text.get("remark", "")
    if remark not in _REMARKS:
        raise InputError(f"remark: must be empty, interrupted or clock, got {remark[:40]!r}")
    digest = text.get("plan", "")
    if digest not in ("", plan.digest):
        raise InputError(f"plan: must be {plan.digest}, this plan's digest, got {digest[:40]!r}")
    seconds = _number(text, "seconds")
    if seconds is None or not 0 < seconds < 86_400:
        raise InputError(
            f"seconds: must be above 0 and less than a day, got {text.get('seconds', '')[:40]!r}"
        )
    given = text.get("repeat", "")
    turn = repeat if not given else int(given) if given.isascii() and given.isdigit() else 0
    if turn is None or not 1 <= turn <= plan.repeats:
        raise InputError(f"repeat: must lie in 1 to {plan.repeats}, got {given or turn}")
    return Look(
        inspector=known_inspector(text.get("inspector", ""), plan),
        picture=_picture(text.get("picture", ""), plan),
        repeat=turn,
        answer=cast(Answer, answer),
        seconds=seconds,
        server_seconds=_number(text, "server_seconds"),
        x=_number(text, "x"),
        y=_number(text, "y"),
        time=text.get("time", ""),
        remark=cast(Remark, remark),
        plan=plan.digest,
    )


def known_inspector(name: str, plan: Plan) -> str:
    """A name as it is kept, in the plan's spelling where it lists names.

    Raises:
        InputError: it is no name, or not among the plan's.
    """
    cleaned = clean_name(name)
    if not plan.inspectors:
        return cleaned
    for listed in plan.inspectors:
        if listed.casefold() == cleaned.casefold():
            return listed
    raise InputError(f"inspector: must be one of {', '.join(plan.inspectors)}, got {cleaned!r}")


def _picture(text: str, plan: Plan) -> str:
    for picture in plan.pictures:
        if text in (picture.id, picture.path):
            return picture.id
    raise InputError(f"picture: must be an id or a path of the plan, got {text[:80]!r}")


def _number(text: Mapping[str, str], name: str) -> float | None:
    given = text.get(name, "")
    if not given:
        return None
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{name}: must be a finite number, got {given[:40]!r}")
    return value


def read_csv(data: bytes, plan: Plan, origin: str, taken: Iterable[Look] = ()) -> list[Look]:
    """All looks of a CSV, or every fault with its line (the first ten).

    A row without ``repeat`` is the inspector's next look at that picture.

    Raises:
        InputError: it is no CSV in UTF-8, a column is missing, or a row is not valid or stands
            twice.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise InputError(f"csv: {origin} must be text in UTF-8 ({exc})") from exc
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    names = reader.fieldnames or []
    missing = [name for name in _NEEDED if name not in names]
    unknown = [name for name in names if name not in COLUMNS]
    if missing or unknown:
        raise InputError(
            f"csv: {origin}, line 1 must name the columns {', '.join(_NEEDED)} and may name "
            f"{', '.join(n for n in COLUMNS if n not in _NEEDED)}; missing "
            f"{', '.join(missing) or 'none'}, unknown {', '.join(map(str, unknown)) or 'none'}"
        )
    seen = {look.key: 0 for look in taken}
    found: list[Look] = []
    faults: list[str] = []
    rows = iter(reader)
    while True:
        try:
            row = next(rows, None)
            if row is None:
                break
            if None in row:
                raise InputError(f"must have at most {len(names)} columns, got more")
            look = parse_row(row, plan, _next_repeat(row, plan, seen))
            if look.key in seen:
                before = f"line {seen[look.key]}" if seen[look.key] else "the answers before"
                raise InputError(
                    f"{look.inspector} has looked at {look.picture} for repeat {look.repeat} "
                    f"in {before}"
                )
        except (InputError, csv.Error) as exc:
            # The inner reader has counted a line that did not parse.
            faults.append(f"line {reader.reader.line_num}: {exc}")
            if isinstance(exc, csv.Error):
                break
            continue
        seen[look.key] = reader.line_num
        found.append(look)
    if faults:
        more = len(faults) - _MOST_FAULTS
        shown = [*faults[:_MOST_FAULTS], *([f"and {more} more"] if more > 0 else [])]
        raise InputError(f"csv: {origin} has faults\n" + "\n".join(shown))
    return found


def _next_repeat(
    row: Mapping[str, str | None], plan: Plan, seen: Mapping[tuple[str, str, int], int]
) -> int:
    who = known_inspector((row.get("inspector") or "").strip(), plan).casefold()
    what = _picture((row.get("picture") or "").strip(), plan)
    turn = 1
    while (who, what, turn) in seen:
        turn += 1
    return turn


def read_looks(folder: Path, plan: Plan) -> list[Look]:
    """The answers of a study; none where there is no file yet.

    A last line that a crash has torn is not read.

    Raises:
        InputError: the file is not such as the study writes.
    """
    path = folder / LOOKS_FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise InputError(f"looks: {path} must be a readable file ({exc.strerror})") from exc
    whole = data[: data.rfind(b"\n") + 1]
    return read_csv(whole, plan, str(path)) if whole else []


class Journal:
    """The answers of a study, open for more; one process at a time."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        """Read what is there and open for appending.

        Raises:
            InputError: the file is not such as the study writes.
            SettingsError: it cannot be written, or another process has it open.
        """
        self._file = _open(folder / LOOKS_FILE)
        try:
            self.looks = read_looks(folder, plan)
            self._mend()
        except BaseException:
            self._file.close()
            raise

    def _mend(self) -> None:
        """Cut off a torn last line; write the head where there is none."""
        self._file.seek(0)
        data = self._file.read()
        self._file.truncate(data.rfind(b"\n") + 1)
        if b"\n" not in data:
            self._write(",".join(COLUMNS) + "\n")

    def append(self, looks: Iterable[Look]) -> None:
        """Keep looks; they are on the disk when this returns.

        Raises:
            OSError: they could not be written. None of them is kept then.
        """
        new = list(looks)
        self._write("".join(look.row() for look in new))
        self.looks.extend(new)

    def _write(self, text: str) -> None:
        end = self._file.seek(0, os.SEEK_END)
        try:
            data = text.encode()
            if self._file.write(data) != len(data):  # unbuffered: a full disk takes a part
                raise OSError("the disk took only a part of the row")
            os.fsync(self._file.fileno())
        except OSError:
            # Half a row must not stand before the next one.
            with contextlib.suppress(OSError):
                self._file.truncate(end)
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def _open(path: Path) -> IO[bytes]:
    try:
        # Unbuffered: a write that failed leaves nothing behind that a later flush would write.
        file = cast(IO[bytes], path.open("a+b", buffering=0))
    except OSError as exc:
        raise SettingsError(f"looks: {path} must be writable ({exc.strerror or exc})") from exc
    try:
        import fcntl
    except ImportError:  # no such locks on Windows
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        file.close()
        raise SettingsError(f"looks: {path} is in use by another twonines study") from exc
    return file
