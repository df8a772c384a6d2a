"""Score files: one row for every file, resumable after a kill."""

import hashlib
import json
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from twonines.errors import ImageError, InputError, SettingsError
from twonines.models.card import ModelCard
from twonines.models.inspector import Inspector, Prepared
from twonines.models.providers import available_threads
from twonines.models.session import PROVIDERS, InspectionSession, Provider
from twonines.models.tiling import MAX_TILES
from twonines.serving.files import MAX_BYTES, find_pictures, read_bounded, state
from twonines.serving.journal import open_journal, read_header, shown
from twonines.serving.references import ReferenceImages, Template
from twonines.serving.tables import check_table, write_table
from twonines.types import Image, Inspection, Verdict

_JOURNAL = ".journal.jsonl"
_BATCH = 32


@dataclass(frozen=True, slots=True)
class ScoreSummary:
    """What was scored; ``seconds`` and ``scored`` count this run only, not what was resumed.

    ``left_out`` counts files in folders that are of other kinds, ``linked`` the folders behind
    links, which are not entered, ``golden`` the pictures that are references themselves.
    ``tuned`` is false where `twonines tune` could have been followed and nothing was there.
    """

    total: int
    scored: int
    counts: dict[str, int]
    errors: int
    seconds: float
    left_out: int = 0
    linked: int = 0
    golden: int = 0
    tuned: bool = True

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
        if self.golden:
            said.append(f"left out: {self.golden} pictures that are references themselves")
        if not self.tuned:
            said.append("not tuned for this machine: `twonines tune` may make it faster")
        return said


def score_paths(
    model: Path,
    inputs: Sequence[str],
    out: Path,
    *,
    reference: str | None = None,
    execution_provider: Provider = "auto",
    threads: int | None = None,
    batch_size: int | None = None,
    decode_workers: int | None = None,
    max_bytes: int = MAX_BYTES,
    max_tiles: int = MAX_TILES,
    resume: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> ScoreSummary:
    """Score folders, globs or files into ``out`` (.parquet, .csv or .jsonl).

    Rows go to a journal beside ``out`` as they come; the table is written whole at the end. A
    run that was killed goes on after its last whole batch, if no file has changed. The same
    inputs give the same table. In .csv, text that a spreadsheet would run as a formula gets an
    apostrophe in front. A file of more than ``max_bytes`` is not read, and a picture of more than
    ``max_tiles`` tiles is not inspected; its row says so.

    Without ``execution_provider`` and ``batch_size`` it runs as `twonines tune` has chosen, else
    in batches of 32.

    ``reference`` is a path or a template (see ``Template``) that says where the reference of each
    picture lies. A picture whose reference is missing or broken is an ``ERROR``; one that would be
    compared with itself is left out.

    Raises:
        InputError: nothing to score, the journal belongs to another model or other files, or
            ``reference`` is missing or not wanted for this model.
        SettingsError: an argument is outside its range, or the table's suffix is unknown.
    """
    for name, value in (
        ("batch_size", batch_size), ("decode_workers", decode_workers), ("max_bytes", max_bytes),
        ("max_tiles", max_tiles),
    ):  # fmt: skip
        if value is not None and value < 1:
            raise SettingsError(f"{name}: must be at least 1, got {value}")
    check_table(out)
    template = None if reference is None else Template(reference)
    journal = out.with_name(out.name + _JOURNAL)
    before = read_header(journal) if resume else {}
    # The same provider and batches as before the kill, since either may change the last bits.
    is_tuned = before.get("precision", "float32") != "float32"
    if execution_provider == "auto" and before.get("execution_provider") in PROVIDERS:
        execution_provider = "auto" if is_tuned else before["execution_provider"]
    session = InspectionSession.load(
        model, execution_provider=execution_provider, threads=threads, purpose="batch"
    )
    tuned_size = session.tuned.max_batch_size if session.tuned else _BATCH
    batch_size = before.get("batch_size", batch_size or tuned_size)
    _check_reference(session.card, reference)
    found = find_pictures(inputs)
    jobs = _pair(found.paths, template)
    paths = [path for path, _ in jobs]
    header = {
        "model": session.digest,
        "files": _digest(state(paths)),
        "count": len(paths),
        "execution_provider": session.execution_provider,
        "precision": session.precision,
        "batch_size": batch_size,
        "max_bytes": max_bytes,
        "max_tiles": max_tiles,
        "references": _digest(state(golden for _, golden in jobs if golden is not None)),
    }
    table = open_journal(journal, header, paths, resume)
    done = len(table)
    start = time.perf_counter()
    inspector = Inspector(session, max_tiles=max_tiles)
    workers = decode_workers or available_threads()
    # Of pictures in tiles the whole resized pixels wait, so fewer are read ahead.
    ahead = workers if session.card.tiling else 2 * batch_size
    read = _Reader(inspector, max_bytes, ReferenceImages())
    with journal.open("a", encoding="utf-8") as file, ThreadPoolExecutor(workers) as pool:
        loaded = _read_ahead(pool, read, jobs[done:], ahead)
        for first in range(done, len(paths), batch_size):
            chunk = paths[first : first + batch_size]
            inspections = inspector.inspect(islice(loaded, len(chunk)), batch_size)
            batch = [_row(path, one) for path, one in zip(chunk, inspections, strict=True)]
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
        len(found.paths) - len(paths),
        execution_provider != "auto" or session.tuned is not None,
    )


def _check_reference(card: ModelCard, reference: str | None) -> None:
    if card.reference and reference is None:
        raise InputError(
            "reference: must be given for this model, which compares each picture with one of "
            "the same part without defects"
        )
    if reference is not None and not card.reference:
        raise InputError("reference: must not be given for this model, which takes none")


def _pair(paths: Sequence[Path], template: Template | None) -> list[tuple[Path, Path | None]]:
    """Each picture with its reference; one that would be compared with itself is left out.

    Raises:
        InputError: nothing is left.
    """
    if template is None:
        return [(path, None) for path in paths]
    pairs = ((path, template.path(path)) for path in paths)
    jobs: list[tuple[Path, Path | None]] = [
        (path, golden) for path, golden in pairs if os.path.abspath(path) != os.path.abspath(golden)
    ]
    if not jobs:
        raise InputError("inputs: must name a picture besides the references, got none")
    return jobs


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True, slots=True)
class _Reader:
    inspector: Inspector
    max_bytes: int
    references: ReferenceImages

    def __call__(self, path: Path, reference: Path | None) -> Prepared | Inspection:
        """The prepared picture, or an ERROR that says why it cannot be had."""
        try:
            golden = None if reference is None else self._reference(reference)
            return self.inspector.read(read_bounded(path, self.max_bytes), golden)
        except ImageError as exc:
            return Inspection(Verdict.ERROR, error=str(exc))
        except MemoryError:
            return Inspection(Verdict.ERROR, error="image: does not fit into memory")

    def _reference(self, path: Path) -> Image:
        try:
            data = read_bounded(path, self.max_bytes)
        except ImageError as exc:
            raise type(exc)(f"reference: {shown(path)}: {exc}") from exc
        return self.references.get(data)


def _read_ahead(
    pool: ThreadPoolExecutor,
    read: _Reader,
    jobs: Sequence[tuple[Path, Path | None]],
    ahead: int,
) -> Iterator[Prepared | Inspection]:
    """Pictures in order; up to ``ahead`` more are read while the session runs."""
    rest = iter(jobs)
    futures = deque(pool.submit(read, *job) for job in islice(rest, ahead))
    while futures:
        picture = futures.popleft().result()
        futures.extend(pool.submit(read, *job) for job in islice(rest, 1))
        yield picture
        del picture  # may be large, and the caller has done with it


def _row(path: Path, found: Inspection) -> dict[str, Any]:
    return {
        "path": shown(path),
        "verdict": found.verdict.value,
        "score": found.score,
        "class": found.defect_class,
        "novelty": found.novelty,
        "regions": len(found.regions),
        "reasons": "; ".join(found.reasons),
        "certificate": found.certificate or "",
        "error": found.error or "",
    }
