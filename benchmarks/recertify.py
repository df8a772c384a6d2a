"""Does the certificate keep its word? A thousand random recalibrations on real pictures.

``python -m twonines.benchmarks.recertify elpv magnetic-tile``. Every picture is scored once by a
model that was not taught on it (folds, by group). These fixed scores are the pool; each round
draws certification parts from it, chooses the threshold and looks at what was not drawn.

Two questions, two columns. ``population``: the pool is the population, certification parts are
drawn from it *with* replacement, and the threshold's escape rate over the whole pool exceeds alpha
in at most delta of the rounds; this is what the certificate says. ``untouched``: parts are drawn
without replacement and the escapes are counted in the finite rest, whose own luck is added: it may
exceed alpha more often than delta, for no fault of the bound. ``lot`` takes that luck into the
bound (see ``allowed_escapes``), and must keep delta on the untouched part itself.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.table import Table

from twonines.benchmarks import statistics as st
from twonines.benchmarks.certify import unit_names
from twonines.benchmarks.evaluate import rate_json
from twonines.datasets.record import Record
from twonines.datasets.registry import load_dataset
from twonines.datasets.splits import folds
from twonines.models.backbone import Backbone
from twonines.models.certificate import find_accept_below, needed_units
from twonines.training.export import export_backbone
from twonines.training.features import FeatureExtractor, default_cache
from twonines.training.fit import FeatureLayout, calibrate, fit_head, probabilities

Floats = npt.NDArray[np.float64]
SIZES = {"elpv": 300, "magnetic-tile": 224}
THRESHOLD = 0.5
ROUNDS = 1000


def score_pool(name: str, root: Path | None, cache: Path) -> tuple[list[Record], Floats]:
    """Every picture of the set with the score of a head that was not taught on its fold."""
    dataset = load_dataset(name, root)
    backbone, size = Backbone(), (SIZES[name], SIZES[name])
    extract = FeatureExtractor(export_backbone(backbone, size, cache), size, cache)
    index = {kind: i for i, kind in enumerate(dataset.classes)}
    records: list[Record] = []
    scores: list[Floats] = []
    for split in folds(dataset, n_folds=5):
        weights = fit_head(
            extract(split.train),
            np.array([index[r.defect_class] for r in split.train]),
            np.array([r.certainty for r in split.train], np.float32),
            dataset.classes,
            FeatureLayout.of(backbone.widths),
            seed=split.seed,
        )
        held = np.array([index[r.defect_class] for r in split.calibration])
        weights = calibrate(weights, extract(split.calibration), held)
        records += split.test
        scores.append(1 - probabilities(weights, extract(split.test))[:, 0])
    return records, np.concatenate(scores)


def least_scores(records: Sequence[Record], scores: Floats) -> tuple[Floats, Floats, str]:
    """The least score of each defective part, the greatest of each good one, and the unit."""
    unit, names = unit_names(records)
    bad: dict[str, float] = {}
    good: dict[str, float] = {}
    for record, name, score in zip(records, names, scores, strict=True):
        if record.is_defective:
            bad[name] = min(float(score), bad.get(name, 1.0))
        else:
            good[name] = max(float(score), good.get(name, 0.0))
    return np.array(list(bad.values())), np.array(list(good.values())), unit


def recertify(
    bad: Floats, good: Floats, alpha: float, delta: float, *, share: float, rounds: int, seed: int
) -> dict[str, Any]:
    """Run the rounds at one alpha.

    Args:
        bad: (n,) least score of each defective part.
        good: (m,) greatest score of each good part.
        alpha: highest escape rate.
        delta: 1 - confidence.
        share: of the defective parts that certify in each round, in (0, 1).
        rounds: random recalibrations.
        seed: of all draws.
    """
    rng = np.random.default_rng(seed)
    n = round(share * len(bad))
    lot = len(bad) - n
    result: dict[str, Any] = {
        "alpha": alpha, "delta": delta, "certified_on": n, "untouched": lot, "needed":
        needed_units(alpha, delta),
    }  # fmt: skip
    if find_accept_below(bad[:n], alpha, delta) is None:
        return {**result, "refused": True}
    exceeded = {"population": 0, "untouched": 0, "lot": 0}
    lots = 0
    review, escapes = np.empty(rounds), np.empty(rounds)
    for index in range(rounds):
        drawn = rng.choice(bad, n)
        cut = min(find_accept_below(drawn, alpha, delta) or 0.0, THRESHOLD)
        exceeded["population"] += bool((bad < cut).mean() > alpha)
        order = rng.permutation(len(bad))
        certifies, rest = bad[order[:n]], bad[order[n:]]
        cut = min(find_accept_below(certifies, alpha, delta) or 0.0, THRESHOLD)
        escapes[index] = (rest < cut).mean()
        exceeded["untouched"] += bool(escapes[index] > alpha)
        review[index] = ((good >= cut) & (good < THRESHOLD)).mean()
        narrow = find_accept_below(certifies, alpha, delta, lot)
        if narrow is not None:
            lots += 1
            exceeded["lot"] += bool((rest < min(narrow, THRESHOLD)).mean() > alpha)
    return {
        **result,
        "refused": False,
        "rounds": rounds,
        "lot_certified": lots,
        **{f"exceeded_{k}": rate_json(st.rate(v, rounds)) for k, v in exceeded.items()},
        "mean_escape_rate": float(escapes.mean()),
        "review_of_good": float(review.mean()),
        "overkill": float((good >= THRESHOLD).mean()),
        "automatic_ok_of_good": float(1 - review.mean() - (good >= THRESHOLD).mean()),
    }


def main(
    names: Annotated[list[str], typer.Argument(help=f"Some of {', '.join(SIZES)}.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the set.")] = None,
    alphas: Annotated[
        str, typer.Option(help="Escape rates, with commas.")
    ] = "0.01,0.02,0.05,0.10,0.20",
    delta: Annotated[float, typer.Option(help="1 - confidence.")] = 0.05,
    share: Annotated[float, typer.Option(help="Defective parts that certify.")] = 0.6,
    rounds: Annotated[int, typer.Option(min=1, help="Recalibrations.")] = ROUNDS,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the rows as JSON.")] = None,
) -> None:
    """Certify again and again, and count how often the word is broken."""
    rows = []
    for name in names:
        if name not in SIZES:
            raise typer.BadParameter(f"must be some of {', '.join(SIZES)}, got {name!r}")
        bad, good, unit = least_scores(*score_pool(name, root, default_cache()))
        for alpha in map(float, alphas.split(",")):
            figures = recertify(bad, good, alpha, delta, share=share, rounds=rounds, seed=seed)
            rows.append({"dataset": name, "unit": unit, **figures})
    table = Table("set", "unit", "alpha", "n", "population", "untouched", "lot", "review of good")
    for row in rows:
        start = (row["dataset"], row["unit"], f"{row['alpha']:.0%}", str(row["certified_on"]))
        if row["refused"]:
            table.add_row(*start, f"refused, needs {row['needed']}", "-", "-", "all")
            continue
        shares = [f"{row[f'exceeded_{k}']['value']:.3f}" for k in ("population", "untouched")]
        lot = f"{row['exceeded_lot']['value']:.3f}" if row["lot_certified"] else "refused"
        table.add_row(*start, *shares, lot, f"{row['review_of_good']:.3f}")
    Console(width=110).print(table)
    if out:
        out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
