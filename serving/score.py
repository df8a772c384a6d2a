"""Score files: one row for every file, resumable after a kill."""

import csv
import glob
import hashlib
import io
import json
import logging
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from twonines.errors import ImageError, InputError, SettingsError
from twonines.models.decision import decide
from twonines.models.image import decode, resize
from twonines.models.session import PROVIDERS, InspectionSession, Provider, available_threads
from twonines.types import Image, Inspection, Verdict

log = logging.getLogger(__name__)
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
TABLES = (".parquet", ".csv", ".jsonl")
_JOURNAL = ".journal.jsonl"


@dataclass(frozen=True, slots=True)
class ScoreSummary:
    """What was scored; ``seconds`` and ``scored`` count this run only, not what was resumed."""

    total: int
    scored: int
    counts: dict[str, int]
    errors: int
    seconds: float

    @property
    def images_per_second(self) -> float:
        """Rate of this run; 0 where everything had been scored before."""
        return self.scored / self.seconds if self.seconds > 0 else 0.0


def score_paths(
    model: Path,
    inputs: Sequence[str],
    out: Path,
    *,
    execution_provider: Provider = "auto",
    threads: int | None = None,
    batch_size: int = 32,
    decode_workers: int | None = None,
    resume: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> ScoreSummary:
    """Score folders, globs or files into ``out`` (.parquet, .csv or .jsonl).

    Rows go to a journal beside ``out`` as they come; the table is written whole at the end. A
    run that was killed goes on after its last whole row. The same inputs give the same table.

    Raises:
        InputError: nothing to score, or the journal belongs to another model or other files.
        SettingsError: the table's suffix is unknown.
    """
    if out.suffix not in TABLES:
        raise SettingsError(f"out: must end in {', '.join(TABLES)}, got {out.name!r}")
    if out.suffix == ".parquet":
        _parquet()
    if batch_size < 1:
        raise SettingsError(f"batch_size: must be at least 1, got {batch_size}")
    if decode_workers is not None and decode_workers < 1:
        raise SettingsError(f"decode_workers: must be at least 1, got {decode_workers}")
    journal = out.with_name(out.name + _JOURNAL)
    _make_parent(out)
    before = _header(journal) if resume else {}
    # The same provider and batches as before the kill, since either may change the last bits.
    if execution_provider == "auto" and before.get("execution_provider") in PROVIDERS:
        execution_provider = before["execution_provider"]
    batch_size = before.get("batch_size", batch_size)
    session = InspectionSession.load(model, execution_provider=execution_provider, threads=threads)
    paths = find_pictures(inputs)
    header = {
        "model": session.digest,
        "files": _digest(paths),
        "count": len(paths),
        "execution_provider": session.execution_provider,
        "batch_size": batch_size,
    }
    done = _open_journal(journal, header, resume)
    start = time.perf_counter()
    rows = _rows(session, paths[done:], batch_size, decode_workers or available_threads())
    with journal.open("a", encoding="utf-8") as file:
        scored = 0
        for batch in rows:
            file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in batch))
            file.flush()
            scored += len(batch)
            if progress:
                progress(done + scored, len(paths))
        os.fsync(file.fileno())
    seconds = time.perf_counter() - start
    table = [json.loads(line) for line in _lines(journal)[1:]]
    _write_table(table, out)
    journal.unlink()
    counts = Counter(row["verdict"] for row in table)
    return ScoreSummary(
        len(table), scored, dict(sorted(counts.items())), counts[Verdict.ERROR.value], seconds
    )


def find_pictures(inputs: Sequence[str]) -> list[Path]:
    """Pictures of folders (recursive) and globs, and every file named; sorted, each once.

    Raises:
        InputError: an input names nothing.
    """
    found: set[Path] = set()
    for item in inputs:
        path = Path(item)
        if path.is_dir():
            new = {p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()}
        elif path.is_file():
            new = {path}
        else:
            new = {Path(p) for p in glob.glob(item, recursive=True) if Path(p).is_file()}
        if not new:
            raise InputError(f"inputs: {item!r} must be a folder, glob or file with pictures")
        found |= new
    return sorted(found)


def _digest(paths: Sequence[Path]) -> str:
    names = "\0".join(str(path) for path in paths)
    return hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()


def _lines(journal: Path) -> list[str]:
    """Whole lines; one that was torn by a kill is left out."""
    data = journal.read_bytes()
    # Not splitlines: names may hold other characters that it takes for line ends.
    return data.decode("utf-8", "replace").split("\n")[:-1]


def _header(journal: Path) -> dict[str, Any]:
    """First line of an interrupted run's journal; empty where there is none."""
    lines = _lines(journal) if journal.exists() else []
    if not lines:
        return {}
    try:
        found = json.loads(lines[0])
    except ValueError:
        found = None
    if not isinstance(found, dict) or "batch_size" not in found:
        raise InputError(
            f"out: {journal} must be the journal of an interrupted run, got something else; "
            "score with --fresh to start again"
        )
    return found


def _make_parent(out: Path) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise SettingsError(f"out: {out.parent} must be a folder ({exc.strerror or exc})") from exc


def _open_journal(journal: Path, header: dict[str, Any], resume: bool) -> int:
    """Rows that an interrupted run has left; starts the journal where there is none."""
    lines = _lines(journal) if resume and journal.exists() else []
    if not lines:
        journal.write_text(json.dumps(header) + "\n", encoding="utf-8")
        return 0
    before = _header(journal)
    changed = sorted(key for key, value in header.items() if before.get(key) != value)
    if changed:
        raise InputError(
            f"out: {journal} is of an interrupted run with other {', '.join(changed)}; "
            "score with --fresh to start again"
        )
    whole = len(lines) - 1
    if whole < header["count"]:  # whole batches only, so that every batch is what it was
        lines = lines[: 1 + whole - whole % int(header["batch_size"])]
    partial = journal.with_name(journal.name + ".tmp")
    partial.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    os.replace(partial, journal)
    return len(lines) - 1


def _rows(
    session: InspectionSession, paths: Sequence[Path], batch_size: int, workers: int
) -> Iterator[list[dict[str, Any]]]:
    """Rows in order, a batch at a time; pictures are decoded ahead while the session runs."""
    chunks = [paths[i : i + batch_size] for i in range(0, len(paths), batch_size)]
    size = session.input_size
    ahead: deque[list[Future[tuple[Image, tuple[int, int]] | str]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for index in range(min(2, len(chunks))):
            ahead.append([pool.submit(_read, path, size) for path in chunks[index]])
        for index, chunk in enumerate(chunks):
            loaded = [future.result() for future in ahead.popleft()]
            if index + 2 < len(chunks):
                ahead.append([pool.submit(_read, path, size) for path in chunks[index + 2]])
            yield _score_chunk(session, chunk, loaded)


def _read(path: Path, size: tuple[int, int]) -> tuple[Image, tuple[int, int]] | str:
    """The resized picture and its own size, or why it cannot be read."""
    try:
        image = decode(path.read_bytes())
        return resize(image, size), (image.shape[0], image.shape[1])
    except ImageError as exc:
        return str(exc)
    except OSError as exc:
        return f"file: cannot be read ({exc.strerror or exc})"


def _score_chunk(
    session: InspectionSession,
    paths: Sequence[Path],
    loaded: Sequence[tuple[Image, tuple[int, int]] | str],
) -> list[dict[str, Any]]:
    good = [item for item in loaded if not isinstance(item, str)]
    decided = iter(_inspect(session, good))
    return [
        _row(
            path, Inspection(Verdict.ERROR, error=item) if isinstance(item, str) else next(decided)
        )
        for path, item in zip(paths, loaded, strict=True)
    ]


def _inspect(
    session: InspectionSession, good: Sequence[tuple[Image, tuple[int, int]]]
) -> list[Inspection]:
    if not good:
        return []
    try:
        outputs = session.run(np.stack([image for image, _ in good]))
        return decide(outputs, session.card, [size for _, size in good])
    except Exception as exc:  # one picture must not cost the others their rows
        if len(good) > 1:
            return [_inspect(session, [item])[0] for item in good]
        log.error("the session failed on one picture", exc_info=exc)
        return [Inspection(Verdict.ERROR, error="the picture could not be inspected")]


def _row(path: Path, found: Inspection) -> dict[str, Any]:
    return {
        "path": str(path).encode("utf-8", "replace").decode("utf-8"),
        "verdict": found.verdict.value,
        "score": found.score,
        "class": found.defect_class,
        "novelty": found.novelty,
        "regions": len(found.regions),
        "reasons": "; ".join(found.reasons),
        "error": found.error or "",
    }


def _parquet() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as exc:
        raise SettingsError("out: .parquet needs pip install 'twonines[parquet]'") from exc
    return pyarrow


def _write_table(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """Write the table whole or not at all."""
    partial = out.with_name(out.name + ".tmp")
    if out.suffix == ".parquet":
        pyarrow = _parquet()
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
        writer = csv.DictWriter(buffer, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        partial.write_bytes(buffer.getvalue().encode("utf-8"))
    os.replace(partial, out)
