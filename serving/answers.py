"""What the service answers for each picture."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from twonines.errors import TwoninesError
from twonines.serving.batcher import Answer
from twonines.serving.intake import Upload
from twonines.serving.metrics import Metrics
from twonines.serving.recording import Noted
from twonines.types import Inspection, Verdict


def build_answer(
    upload: Upload,
    outcomes: Sequence[Answer | TwoninesError],
    noted: Noted,
    metrics: Metrics,
) -> tuple[dict[str, Any], int]:
    """The body, and 200 as soon as one picture was inspected, else the first error's status."""
    results: list[dict[str, Any]] = []
    for picture, outcome, key in zip(upload.pictures, outcomes, noted.ids, strict=True):
        if isinstance(outcome, TwoninesError):
            count_error(metrics, outcome)
            results.append(_error_entry(picture.name, outcome, key))
        else:
            results.append(_entry(picture.name, settled(outcome, noted.fault).inspection, key))
    body: dict[str, Any] = {"results": results, **upload.fields, "recorded": noted.recorded}
    if all(result["error"] for result in results):
        first = results[0]["error"]
        return {"error": first["message"], **body}, first["status"]
    return body, 200


def count_error(metrics: Metrics, exc: TwoninesError) -> None:
    """Count a picture that was refused or failed."""
    metrics.rejected.labels(type(exc).__name__).inc()
    metrics.verdicts.labels(Verdict.ERROR.value).inc()


def settled(answer: Answer, fault: str | None) -> Answer:
    """The answer as it is given; ``fault`` says why it is not recorded though it should be."""
    if fault is None:
        return answer
    found = answer.inspection
    # What nobody can find again may not pass as good.
    verdict = Verdict.REVIEW if found.verdict is Verdict.OK else found.verdict
    found = replace(found, verdict=verdict, reasons=(*found.reasons, fault))
    return replace(answer, inspection=found)


def _entry(name: str, found: Inspection, key: str | None) -> dict[str, Any]:
    return {
        "id": key,
        "file": name,
        "verdict": found.verdict.value,
        "score": found.score,
        "class": found.defect_class,
        "class_scores": found.class_scores,
        "novelty": found.novelty,
        "regions": [asdict(region) for region in found.regions],
        "reasons": list(found.reasons),
        "certificate": found.certificate,
        "error": {"status": 500, "message": found.error} if found.error else None,
    }


def _error_entry(name: str, exc: TwoninesError, key: str | None) -> dict[str, Any]:
    return {
        "id": key,
        "file": name,
        "verdict": Verdict.ERROR.value,
        "score": None,
        "class": None,
        "class_scores": {},
        "novelty": None,
        "regions": [],
        "reasons": [],
        "certificate": None,
        "error": {"status": exc.status, "message": str(exc)},
    }


def timing_headers(timings_ms: Mapping[str, float]) -> dict[str, str]:
    """``Server-Timing`` (W3C), which browsers and tools show, and the size of the batch."""
    size = timings_ms.get("batch_size")
    stages = [f"{name};dur={ms:.3f}" for name, ms in timings_ms.items() if name != "batch_size"]
    headers = {"Server-Timing": ", ".join(stages)}
    return headers if size is None else {**headers, "X-Batch-Size": f"{size:.0f}"}


def compute_seconds(outcomes: Sequence[Answer | TwoninesError]) -> float:
    """Seconds of the session that the pictures took, each its share of its batches."""
    return sum(outcome.compute_s for outcome in outcomes if isinstance(outcome, Answer))


def slowest(outcomes: Sequence[Answer | TwoninesError]) -> dict[str, float]:
    """Stage times of the picture that took longest, with its batch."""
    answers = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
    if not answers:
        return {}
    last = max(answers, key=lambda answer: answer.timings_ms["total"])
    return {**last.timings_ms, "batch_size": float(last.batch_size)}
