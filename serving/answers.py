"""What the service answers for each picture."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from twonines.errors import TwoninesError
from twonines.serving.batcher import Answer
from twonines.serving.intake import Upload
from twonines.serving.metrics import Metrics
from twonines.serving.recent import Recent
from twonines.types import Verdict


def build_answer(
    upload: Upload,
    outcomes: Sequence[Answer | TwoninesError],
    metrics: Metrics,
    recent: Recent,
) -> tuple[dict[str, Any], int]:
    """The body, and 200 as soon as one picture was inspected, else the first error's status."""
    results: list[dict[str, Any]] = []
    for picture, outcome in zip(upload.pictures, outcomes, strict=True):
        if isinstance(outcome, TwoninesError):
            metrics.rejected.labels(type(outcome).__name__).inc()
            metrics.verdicts.labels(Verdict.ERROR.value).inc()
            results.append(_error_entry(picture.name, outcome))
        else:
            results.append(_entry(picture.name, outcome, recent.put(picture.data)))
    body: dict[str, Any] = {"results": results, **upload.fields}
    if all(result["error"] for result in results):
        first = results[0]["error"]
        return {"error": first["message"], **body}, first["status"]
    return body, 200


def _entry(name: str, answer: Answer, key: str) -> dict[str, Any]:
    found = answer.inspection
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
        "error": {"status": 500, "message": found.error} if found.error else None,
    }


def _error_entry(name: str, exc: TwoninesError) -> dict[str, Any]:
    return {
        "id": None,
        "file": name,
        "verdict": Verdict.ERROR.value,
        "score": None,
        "class": None,
        "class_scores": {},
        "novelty": None,
        "regions": [],
        "reasons": [],
        "error": {"status": exc.status, "message": str(exc)},
    }


def slowest(outcomes: Sequence[Answer | TwoninesError]) -> dict[str, float]:
    """Stage times of the picture that took longest, with its batch."""
    answers = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
    if not answers:
        return {}
    last = max(answers, key=lambda answer: answer.timings_ms["total"])
    return {**last.timings_ms, "batch_size": float(last.batch_size)}
