"""Score files: one row for every file, resumable after a kill."""

import hashlib
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

from twonines.errors import ImageError, SettingsError
from twonines.models.decision import decide
from twonines.models.image import decode, resize
from twonines.models.session import PROVIDERS, InspectionSession, Provider, available_threads
from twonines.serving.files import MAX_BYTES, find_pictures, read_bounded, state
from twonines.serving.journal import open_journal, read_header, shown
from twonines.serving.tables import check_table, write_table
from twonines.types import Image, Inspection, Verdict

log = logging.getLogger(__name__)
_JOURNAL = ".journal.jsonl"
Loaded = tuple[Image, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class ScoreSummary:
    """What was scored; ``seconds`` and ``scored`` count this run only, not what was resumed.

    ``left_out`` counts files in folders that are of other kinds, ``linked`` the folders behind
    links, which are not entered.
    """

    total: int
    scored: int
    counts: dict[str, int]
    errors: int
    seconds: float
    left_out: int = 0
    linked: int = 0

    @property
    def images_per_second(self) -> float:
        """Rate of this run; 0 where everything had been scored before."""
        return self.scored / self.seconds if self.seconds > 0 else 0.0

    @property
    def remarks(self) -> list[str]:
        """What was not scored, in words."""
        said = []
        if self.left_out:
            said.append(f"left out: {self.left_out} files that are no pictures by name")
        if self.linked:
            said.append(f"not entered: {self.linked} folders behind links")
        return said


def score_paths(
    model: Path,
    inputs: Sequence[str],
    out: Path,
    *,
    execution_provider: Provider = "auto",
    threads: int | None = None,
    batch_size: int = 32,
    decode_workers: int | None = None,
    max_bytes: int = MAX_BYTES,
    resume: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> ScoreSummary:
    """Score folders, globs or files into ``out`` (.parquet, .csv or .jsonl).

    Rows go to a journal beside ``out`` as they come; the table is written whole at the end. A
    run that was killed goes on after its last whole batch, if no file has changed. The same
    inputs give the same table. In .csv, text that a spreadsheet would run as a formula gets an
    apostrophe in front. A file of more than ``max_bytes`` is not read; its row says so.

    Raises:
        InputError: nothing to score, or the journal belongs to another model or other files.
        SettingsError: an argument is outside its range, or the table's suffix is unknown.
    """
    for name, value in (
        ("batch_size", batch_size), ("decode_workers", decode_workers), ("max_bytes", max_bytes),
    ):  # fmt: skip
        if value is not None and value < 1:
            raise SettingsError(f"{name}: must be at least 1, got {value}")
    check_table(out)
    journal = out.with_name(out.name + _JOURNAL)
    before = read_header(journal) if resume else {}
    # The same provider and batches as before the kill, since either may change the last bits.
    if execution_provider == "auto" and before.get("execution_provider") in PROVIDERS:
        execution_provider = before["execution_provider"]
    batch_size = before.get("batch_size", batch_size)
    session = InspectionSession.load(model, execution_provider=execution_provider, threads=threads)
    found = find_pictures(inputs)
    paths = found.paths
    header = {
        "model": session.digest,
        "files": hashlib.sha256(state(paths).encode("utf-8", "surrogateescape")).hexdigest(),
        "count": len(paths),
        "execution_provider": session.execution_provider,
        "batch_size": batch_size,
        "max_bytes": max_bytes,
    }
    table = open_journal(journal, header, paths, resume)
    done = len(table)
    start = time.perf_counter()
    read = _Reader(session.input_size, max_bytes)
    rows = _rows(session, read, paths[done:], batch_size, decode_workers or available_threads())
    with journal.open("a", encoding="utf-8") as file:
        for batch in rows:
            file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in batch))
            file.flush()
            table += batch
            if progress:
                progress(len(table), len(paths))
        os.fsync(file.fileno())
    seconds = time.perf_counter() - start
    write_table(table, out)
    journal.unlink()
    counts = Counter(row["verdict"] for row in table)
    return ScoreSummary(
        len(table),
        len(table) - done,
        dict(sorted(counts.items())),
        counts[Verdict.ERROR.value],
        seconds,
        found.left_out,
        found.linked,
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    size: tuple[int, int]
    max_bytes: int

    def __call__(self, path: Path) -> Loaded | str:
        """The resized picture and its own size, or why it cannot be read."""
        try:
            image = decode(read_bounded(path, self.max_bytes))
            return resize(image, self.size), (image.shape[0], image.shape[1])
        except ImageError as exc:
            return str(exc)
        except MemoryError:
            return "image: does not fit into memory"


def _rows(
    session: InspectionSession, read: _Reader, paths: Sequence[Path], batch_size: int, workers: int
) -> Iterator[list[dict[str, Any]]]:
    """Rows in order, a batch at a time; pictures are decoded ahead while the session runs."""
    chunks = [paths[i : i + batch_size] for i in range(0, len(paths), batch_size)]
    ahead: deque[list[Future[Loaded | str]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for index in range(min(2, len(chunks))):
            ahead.append([pool.submit(read, path) for path in chunks[index]])
        for index, chunk in enumerate(chunks):
            loaded = [future.result() for future in ahead.popleft()]
            if index + 2 < len(chunks):
                ahead.append([pool.submit(read, path) for path in chunks[index + 2]])
            yield _score_chunk(session, chunk, loaded)


def _score_chunk(
    session: InspectionSession,
    paths: Sequence[Path],
    loaded: Sequence[Loaded | str],
) -> list[dict[str, Any]]:
    good = [item for item in loaded if not isinstance(item, str)]
    decided = iter(_inspect(session, good))
    return [
        _row(
            path, Inspection(Verdict.ERROR, error=item) if isinstance(item, str) else next(decided)
        )
        for path, item in zip(paths, loaded, strict=True)
    ]


def _inspect(session: InspectionSession, good: Sequence[Loaded]) -> list[Inspection]:
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
        "path": shown(path),
        "verdict": found.verdict.value,
        "score": found.score,
        "class": found.defect_class,
        "novelty": found.novelty,
        "regions": len(found.regions),
        "reasons": "; ".join(found.reasons),
        "error": found.error or "",
    }
