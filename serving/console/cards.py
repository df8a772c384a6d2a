"""Cards as rows of words and figures."""

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

from twonines.errors import ModelFileError
from twonines.models.card import ModelCard
from twonines.models.onnx_file import read_card
from twonines.models.parts import Metric
from twonines.models.providers import read_model
from twonines.serving.console.texts import Words

MAIN = ("accuracy", "escape_rate", "overkill_rate", "review")
"""Metrics that are shown beside a model's name."""


@dataclass(frozen=True, slots=True)
class Told:
    """A model file's card and the file's SHA-256."""

    card: ModelCard
    digest: str


def read(path: Path) -> Told:
    """Read the card of a file, without loading the model; blocks.

    Raises:
        ModelFileError: it is no model.
    """
    try:
        seen = path.stat()
    except OSError as exc:
        raise ModelFileError(f"model: {path} cannot be read ({exc.strerror})") from exc
    return _read(path, seen.st_mtime_ns, seen.st_size)


@functools.lru_cache(maxsize=256)
def _read(path: Path, _mtime_ns: int, _size: int) -> Told:
    """As long as the file does not change, it is read once: it may hold hundreds of megabytes."""
    data = read_model(path)
    return Told(read_card(data, str(path)), hashlib.sha256(data).hexdigest())


def figure(metric: Metric | None) -> str:
    """The value, its interval and counts; shares in percent."""
    if metric is None:
        return "–"
    text = f"{metric.value:.1%}"
    if metric.low is not None and metric.high is not None:
        text += f" [{metric.low:.1%}, {metric.high:.1%}]"
    count = "" if metric.count is None else f"{metric.count}/"
    return f"{text}  {count}{metric.n}"


def rows(told: Told, t: Words) -> dict[str, str]:
    """Everything on the card that a person compares, by its name."""
    card, data, policy = told.card, told.card.training_data, told.card.policy
    certificate = card.certificate
    return {
        t("certificate"): certificate.statement if certificate else t("none"),
        **{metric_name(name, t): figure(value) for name, value in card.metrics.items()},
        t("task"): card.task,
        t("classes"): ", ".join(card.classes),
        t("recipe"): f"{card.recipe}, {card.backbone}",
        t("input_size"): f"{card.input_size[0]} × {card.input_size[1]}",
        t("taught_on"): f"{data.name}: {data.n_train} + {data.n_calibration}, {t('test')} "
        f"{data.n_test}, {data.split_kind}",
        t("accepts_below"): f"{policy.accepts_below:.4g}",
        t("rejects_from"): f"{policy.threshold:.4g}",
        t("novelty_limit"): "–" if policy.novelty_limit is None else f"{policy.novelty_limit:.4g}",
        t("compares"): t("yes") if card.reference else t("no"),
        t("created"): card.created[:16].replace("T", " "),
        t("digest"): told.digest[:16],
    }


def metric_name(name: str, t: Words) -> str:
    """A metric in words; those without a translation keep their own name."""
    return t.of(f"metric_{name}") or name.replace("_", " ")
