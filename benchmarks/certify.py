"""Certify a model: run it over pictures that it was not taught on, and bound its escape rate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from twonines.benchmarks import statistics as st
from twonines.benchmarks.evaluate import Judged, judge_records, rebuild_split
from twonines.datasets.checks import content_digest
from twonines.datasets.record import Dataset, Record
from twonines.datasets.splits import make_split
from twonines.errors import DatasetError, SettingsError
from twonines.models.baseline import learn_cuts
from twonines.models.card import ClassRule, ModelCard, Policy
from twonines.models.certificate import (
    Certificate,
    Unit,
    allowed_escapes,
    check_levels,
    escape_bound,
    find_accept_below,
    needed_units,
)
from twonines.models.costs import Costs, cheapest_thresholds, severities
from twonines.models.image import preprocessing_digest
from twonines.models.onnx_file import graph_digest, replace_card
from twonines.models.parts import Metric
from twonines.models.providers import openvino_devices, read_model
from twonines.models.session import InspectionSession, Provider
from twonines.models.whole import write_whole
from twonines.types import GOOD, Inspection, Verdict

KEEPS_CALIBRATION = ("teach",)
"""Recipes whose ranking of parts does not depend on the calibration split."""
ProviderChoice = Literal["all", "cpu", "openvino"]


@dataclass(frozen=True, slots=True)
class Options:
    """The wish. ``providers`` all certifies for every provider that this machine has."""

    alpha: float
    delta: float = 0.05
    independent: bool = False
    providers: ProviderChoice = "all"
    costs: Costs | None = None
    rules: Mapping[str, ClassRule] | None = None
    min_defect_area: float | None = None


@dataclass(frozen=True, slots=True)
class Certified:
    """The certified file and its card; the card's certificate is never None."""

    model: Path
    card: ModelCard
    certificate: Certificate


def certify(model: Path, dataset: Dataset, out: Path, options: Options) -> Certified:
    """Find the accept threshold that keeps the wish, and write the model with its certificate.

    Without ``independent`` the pictures are the model's calibration split, rebuilt from the card;
    with it, every picture of ``dataset``, which must have had no part in teaching.

    Raises:
        SettingsError: an option is outside its range, or ``out`` is the model itself.
        DatasetError: the pictures cannot show the bound; the message says how many are missing.
            Or they cannot be told from those that were taught.
    """
    try:
        check_levels(options.alpha, options.delta)
    except ValueError as exc:
        raise SettingsError(str(exc)) from exc
    if out.exists() and out.samefile(model):
        raise SettingsError(f"out: must be another file than the model, got {out}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise SettingsError(f"out: {out} must be writable ({exc.strerror or exc})") from exc
    if out.is_dir():
        raise SettingsError(f"out: must be a file, got the folder {out}")
    sessions = _sessions(model, options.providers)
    card = sessions[0].card
    if not card.has_good:
        raise SettingsError("model: must know good parts, for it cannot say OK, got a typing model")
    records = find_records(card, dataset, options.independent)
    judged = [judge_records(session, records) for session in sessions]
    accept_below = _accept_below(judged, options)
    policy = _policy(card, judged[0], accept_below, options)
    data = read_model(model)
    chosen = card.model_copy(update={"policy": policy, "certificate": None})
    chosen = ModelCard.model_validate(chosen.model_dump())
    finals = []
    for session in sessions:
        session.card = chosen
        finals.append(judge_records(session, records))
    worst = max(finals, key=lambda f: len(_escaped(f, policy.accepts_below)))
    providers = tuple(session.execution_provider for session in sessions)
    certificate = _certificate(chosen, worst, dataset, data, providers, options)
    result = chosen.model_copy(update={"certificate": certificate})
    try:
        write_whole(out, replace_card(data, result))
    except OSError as exc:
        raise SettingsError(f"out: {out} must be writable ({exc.strerror or exc})") from exc
    return Certified(out, result, certificate)


def find_records(card: ModelCard, dataset: Dataset, independent: bool) -> list[Record]:
    """The pictures that may certify this model.

    A model that was taught on good pictures alone has seen no defective one, so those of training
    and calibration count too.

    Raises:
        DatasetError: the pictures are not those that the card names, or had a part in teaching.
    """
    if independent:
        if content_digest(dataset.records, dataset.root) == card.training_data.digest:
            raise DatasetError(
                f"dataset: independent pictures must not be those of the training, got "
                f"{dataset.card.name} with the digest on the card"
            )
        return list(dataset.records)
    if card.recipe not in KEEPS_CALIBRATION:
        raise DatasetError(
            f"dataset: a model of the recipe {card.recipe!r} may have been chosen by its "
            "calibration split, so that cannot certify it; give other pictures with --independent"
        )
    records = list(rebuild_split(card, dataset).calibration)
    if card.task == "anomaly":
        data = card.training_data
        whole = make_split(dataset, seed=data.seed, method=data.split_kind)
        records += [r for r in (*whole.train, *whole.calibration) if r.is_defective]
    return records


def _sessions(model: Path, choice: ProviderChoice) -> list[InspectionSession]:
    names: list[Provider] = ["cpu", "openvino"] if choice == "all" else [choice]
    if choice == "all" and not openvino_devices()[0]:
        names = ["cpu"]
    return [InspectionSession.load(model, execution_provider=name) for name in names]


def unit_names(records: Sequence[Record]) -> tuple[Unit, list[str]]:
    """What counts as one part, and the name of each picture's part.

    Good and defective pictures of one group are two parts: what is certified is said of parts
    that are defective.
    """
    if not any(record.group is not None for record in records):
        return "picture", [str(record.path) for record in records]
    return "group", [f"{'bad' if r.is_defective else 'good'} {r.group or r.path}" for r in records]


def unit_scores(judged: Judged, *, defective: bool) -> dict[str, float]:
    """The least score of each part; a picture without a score cannot be accepted: 1."""
    least: dict[str, float] = {}
    _, names = unit_names(judged.records)
    for record, name, score in zip(judged.records, names, judged.scores, strict=True):
        if record.is_defective is defective:
            least[name] = min(float(score), least.get(name, 1.0))
    return least


def _accept_below(judged: Sequence[Judged], options: Options) -> float:
    """The strictest of the providers' thresholds: each one's bound then holds."""
    found = []
    for one in judged:
        scores = list(unit_scores(one, defective=True).values())
        threshold = find_accept_below(scores, options.alpha, options.delta)
        if threshold is None:
            raise DatasetError(refusal(len(scores), options, unit_names(one.records)[0]))
        found.append(threshold)
    return min(found)


def refusal(n: int, options: Options, unit: Unit) -> str:
    """Why n defective units cannot show the bound, and how many more could."""
    needed = needed_units(options.alpha, options.delta)
    what = "groups with defective pictures" if unit == "group" else "defective parts"
    loosest = 1 - options.delta ** (1 / n) if n else 1.0
    return (
        f"certificate: an escape rate of at most {options.alpha:.3g} with confidence "
        f"{1 - options.delta:.3g} needs at least {needed} {what} that the model was not taught on, "
        f"got {n}: {needed - n} more are needed; {n} can show {loosest:.3g} at best"
    )


def _policy(card: ModelCard, judged: Judged, accept_below: float, options: Options) -> Policy:
    changes: dict[str, object] = {}
    if options.rules is not None:
        changes["class_rules"] = {n: rule.model_dump() for n, rule in options.rules.items()}
    if options.min_defect_area is not None:
        changes["min_defect_area"] = options.min_defect_area
    policy = Policy.model_validate({**card.policy.model_dump(), "accept_below": None, **changes})
    threshold = policy.threshold
    if options.costs is not None:
        weights = severities([r.defect_class for r in judged.records], policy)
        try:
            cheap, threshold, _ = cheapest_thresholds(
                judged.scores, judged.defective, options.costs, weights
            )
        except ValueError as exc:
            raise DatasetError(f"costs: {exc}") from exc
        accept_below = min(accept_below, cheap)
    return Policy.model_validate(
        {
            **policy.model_dump(),
            "threshold": threshold,
            # A lower NG threshold only takes parts out of OK, and so keeps the bound.
            "accept_below": min(accept_below, threshold),
        }
    )


def _escaped(judged: Judged, accept_below: float) -> list[str]:
    """Defective units with a score under the threshold, whatever else keeps them from OK."""
    scores = unit_scores(judged, defective=True)
    return [name for name, score in scores.items() if score < accept_below]


def _certificate(
    card: ModelCard,
    judged: Judged,
    dataset: Dataset,
    data: bytes,
    providers: tuple[str, ...],
    options: Options,
) -> Certificate:
    unit, names = unit_names(judged.records)
    defective = [name for name, r in zip(names, judged.records, strict=True) if r.is_defective]
    good = [name for name, r in zip(names, judged.records, strict=True) if not r.is_defective]
    n = len(set(defective))
    accept_below = card.policy.accepts_below
    escapes = len(_escaped(judged, accept_below))
    assert escapes <= allowed_escapes(n, options.alpha, options.delta)
    return Certificate(
        alpha=options.alpha,
        delta=options.delta,
        unit=unit,
        accept_below=accept_below,
        n_defective=n,
        n_good=len(set(good)),
        defective_pictures=len(defective),
        good_pictures=len(good),
        escapes=escapes,
        escape_bound=escape_bound(escapes, n, options.delta),
        overkill=_share(judged, names, Verdict.NG, defective=False),
        review_good=_share(judged, names, Verdict.REVIEW, defective=False),
        review_defective=_share(judged, names, Verdict.REVIEW, defective=True),
        data_name=dataset.card.name,
        data=content_digest(judged.records, dataset.root),
        independent=options.independent,
        graph=graph_digest(data),
        preprocessing=preprocessing_digest(card.input_size),
        decision=card.decision_digest(),
        execution_providers=providers,
        watch=learn_cuts(
            _features(judged, names, defective=False), _features(judged, names, defective=True)
        ),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


_GRAVITY = {Verdict.OK: 0, Verdict.REVIEW: 1, Verdict.ERROR: 1, Verdict.NG: 2}


def _share(
    judged: Judged, names: Sequence[str], verdict: Verdict, *, defective: bool
) -> Metric | None:
    """Units whose worst picture has this verdict; a picture that cannot be read is reviewed."""
    worst: dict[str, int] = {}
    for record, name, found in zip(judged.records, names, judged.inspections, strict=True):
        if record.is_defective is defective:
            worst[name] = max(_GRAVITY[found.verdict], worst.get(name, 0))
    if not worst:
        return None
    figure = st.rate(sum(value == _GRAVITY[verdict] for value in worst.values()), len(worst))
    return Metric(value=figure.value, n=figure.n, low=figure.low, high=figure.high, count=figure.k)


def _features(judged: Judged, names: Sequence[str], *, defective: bool) -> list[dict[str, float]]:
    """What the watch observes, of one picture a part: those of one part are not independent."""
    first: dict[str, Inspection] = {}
    for record, name, found in zip(judged.records, names, judged.inspections, strict=True):
        if record.is_defective is defective and found.score is not None:
            first.setdefault(name, found)
    return [
        {**found.quality, "score": float(found.score or 0), "novelty": float(found.novelty or 0)}
        for found in first.values()
    ]


def parse_rule(text: str) -> tuple[str, ClassRule]:
    """``crack:review=0.05,reject=0.5,severity=10`` as a class and its rule.

    Raises:
        SettingsError: the text is not of that form, or a value is outside its range.
    """
    name, _, rest = text.partition(":")
    keys = {"review": "review_from", "reject": "reject_from", "severity": "severity"}
    try:
        given = dict(item.split("=", 1) for item in rest.split(","))
        rule = ClassRule.model_validate({keys[k.strip()]: float(v) for k, v in given.items()})
    except (KeyError, ValueError) as exc:
        raise SettingsError(
            f"rule: must be CLASS:review=LIMIT,reject=LIMIT,severity=FACTOR with limits in "
            f"[0, 1], got {text!r}"
        ) from exc
    if not name or name == GOOD:
        raise SettingsError(f"rule: must name a kind of defect, got {text!r}")
    return name, rule
