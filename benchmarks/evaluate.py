"""Run a model over the test pictures that its card names, and count."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from twonines.benchmarks import statistics as st
from twonines.datasets.checks import content_digest
from twonines.datasets.record import Dataset, Record
from twonines.datasets.splits import Split, good_only, make_split
from twonines.errors import DatasetError, ImageError
from twonines.models.card import ModelCard
from twonines.models.image import decode
from twonines.models.inspector import Inspector, Prepared
from twonines.models.session import InspectionSession
from twonines.types import DEFECTIVE, Inspection, Verdict

_BATCH = 32
PREVALENCES = (0.001, 0.01, 0.1)


@dataclass(frozen=True, slots=True)
class Judged:
    """The test pictures with what the model said; ``seconds`` is the time of all of them."""

    records: tuple[Record, ...]
    inspections: tuple[Inspection, ...]
    seconds: float

    @property
    def defective(self) -> st.Bools:
        """(N,) true where the part is defective."""
        return np.array([r.is_defective for r in self.records], bool)

    @property
    def rejected(self) -> st.Bools:
        """(N,) true where the part is not accepted: NG, REVIEW and ERROR."""
        return np.array([i.verdict is not Verdict.OK for i in self.inspections], bool)

    @property
    def scores(self) -> st.Floats:
        """(N,) scores; 1 where there is none, for such a part is never accepted."""
        return np.array([1.0 if i.score is None else i.score for i in self.inspections])


def rebuild_split(card: ModelCard, dataset: Dataset) -> Split:
    """The split that the model was taught with.

    Raises:
        DatasetError: the pictures are not those that the card names, or the split cannot be
            rebuilt to the counts on the card: test pictures could have been taught.
    """
    data = card.training_data
    digest = content_digest(dataset.records, dataset.root)
    if digest != data.digest:
        raise DatasetError(
            f"dataset: must be the {data.name} that the model was taught on, digest "
            f"{data.digest[:16]}, got {dataset.card.name} with {digest[:16]}; its test pictures "
            "cannot be told from those that were taught"
        )
    split = make_split(dataset, seed=data.seed, method=data.split_kind)
    if card.task == "anomaly":
        split = good_only(split)
    wanted = (data.n_train, data.n_calibration, data.n_test)
    came = (len(split.train), len(split.calibration), len(split.test))
    if came != wanted:
        raise DatasetError(
            f"split: must give {wanted} training, calibration and test pictures as on the card, "
            f"got {came}"
        )
    if not split.test:
        raise DatasetError("split: must hold at least one test picture, got 0")
    return split


def judge_records(session: InspectionSession, records: Sequence[Record]) -> Judged:
    """Inspect the pictures by the stored policy; one that cannot be read is ``ERROR``.

    The time covers reading, decoding, resizing, the session and the decision, on one thread of
    Python.
    """
    start = time.perf_counter()
    inspector = Inspector(session)
    inspections = tuple(inspector.inspect(_prepare_all(inspector, records), _BATCH))
    return Judged(tuple(records), inspections, time.perf_counter() - start)


def _prepare_all(
    inspector: Inspector, records: Sequence[Record]
) -> Iterator[Prepared | Inspection]:
    """The pictures in order; the inspection says why one cannot be read."""
    for record in records:
        try:
            yield prepare_record(inspector, record)
        except (ImageError, OSError) as exc:
            yield Inspection(Verdict.ERROR, error=str(exc))


def prepare_record(inspector: Inspector, record: Record) -> Prepared:
    """Read a picture, and its reference where the model compares with one.

    Raises:
        ImageError: a picture cannot be decoded or prepared, or has no reference.
        OSError: a file cannot be read.
    """
    reference = None
    if inspector.card.reference and record.reference is not None:
        reference = decode(record.reference.read_bytes())
    return inspector.read(record.path.read_bytes(), reference)


def rate_json(figure: st.Rate | st.Estimate) -> dict[str, Any]:
    """A figure with its value, as plain JSON types."""
    return {"value": figure.value, **asdict(figure)}


def decision_metrics(judged: Judged, seed: int) -> dict[str, Any]:
    """Accept-or-reject figures, at the test set's mix and at rarer defects."""
    truth, said, scores = judged.defective, judged.rejected, judged.scores
    escapes, overkill = st.escape_rate(truth, said), st.overkill_rate(truth, said)
    verdicts = [i.verdict.value for i in judged.inspections]
    return {
        "accuracy": rate_json(st.accuracy(truth, said)),
        "balanced_accuracy": rate_json(st.balanced_accuracy(truth, said)),
        "escape_rate": rate_json(escapes),
        "overkill_rate": rate_json(overkill),
        "auroc": rate_json(st.bootstrap(truth, scores, "auroc", seed=seed)),
        "average_precision": rate_json(st.bootstrap(truth, scores, "average_precision", seed=seed)),
        "calibration_error": st.expected_calibration_error(truth, scores),
        "prevalence": float(truth.mean()),
        "review": rate_json(st.rate(verdicts.count("REVIEW"), len(verdicts))),
        "errors": verdicts.count("ERROR"),
        "weighted_accuracy": [
            {"prevalence": p, **rate_json(st.weighted_accuracy(escapes, overkill, p))}
            for p in PREVALENCES
        ],
    }


def typing_metrics(judged: Judged) -> dict[str, Any]:
    """Share of the defective pictures whose kind of defect is named right."""
    right = [
        record.defect_class == inspection.defect_class
        for record, inspection in zip(judged.records, judged.inspections, strict=True)
        if record.is_defective
    ]
    return rate_json(st.rate(sum(right), len(right)))


def confusion(judged: Judged, classes: Sequence[str]) -> dict[str, Any]:
    """Counts by true class (rows) and by what the model said (columns).

    A part that was accepted counts as ``good``; ``ERROR`` has a column where it came up.
    """
    said = [i.defect_class or "ERROR" for i in judged.inspections]
    columns = [*classes, *sorted(set(said) - set(classes))]
    true = [r.defect_class for r in judged.records]
    # A model that knows no kinds of defect leaves the true ones as rows of their own.
    known = [c for c in classes if c != DEFECTIVE or c in true]
    rows = [*known, *sorted(set(true) - set(known))]
    counts = [[0] * len(columns) for _ in rows]
    for row, column in zip(true, said, strict=True):
        counts[rows.index(row)][columns.index(column)] += 1
    return {"rows": rows, "columns": columns, "counts": counts}
