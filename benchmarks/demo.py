"""The demo: the whole main job on real solar-cell pictures, with every gate."""

import time
from pathlib import Path

from twonines.benchmarks.bench import run_bench
from twonines.benchmarks.teaching import teach_and_measure
from twonines.datasets.registry import load_dataset
from twonines.errors import GateError
from twonines.serving.score import score_paths
from twonines.training.teach import Report


def run_demo(out: Path, *, seed: int, report: Report) -> list[tuple[str, str]]:
    """Run every step on elpv; gives the summary as names and values.

    Raises:
        GateError: a gate failed: parity, a picture without a verdict, or a missing report.
    """
    start = time.perf_counter()
    dataset = load_dataset("elpv")
    taught = teach_and_measure(dataset, out / "run", seed=seed, report=report)
    folder = dataset.records[0].path.parent
    summary = score_paths(
        taught.model,
        [str(folder)],
        out / "scores.csv",
        resume=False,
        progress=lambda done, total: report("score", done, total),
    )
    if summary.errors or summary.total != len(dataset.records):
        raise GateError(
            f"score: every one of {len(dataset.records)} pictures must get a verdict, "
            f"got {summary.total} rows with {summary.errors} errors"
        )
    report("bench", 0, 1)
    result = run_bench(taught.model, dataset, out / "report")
    report("bench", 1, 1)
    page = out / "report" / "report.html"
    if not page.exists():
        raise GateError(f"report: {page} must exist")
    metrics = taught.card.metrics
    lines = [
        ("pictures", f"{len(dataset.records)} ({dataset.card.title})"),
        ("parity, largest difference", str(taught.card.parity)),
        ("batch scoring", f"{summary.images_per_second:.0f} pictures a second"),
    ]
    for name in ("accuracy", "balanced_accuracy", "escape_rate", "overkill_rate", "auroc"):
        m = metrics[name]
        lines.append((name, f"{m.value:.3f}  95 % [{m.low:.3f}, {m.high:.3f}]  n={m.n}"))
    for claim in result["claims"]:
        lines.append((claim["name"], claim["answer"]))
    lines.append(("minutes", f"{(time.perf_counter() - start) / 60:.1f}"))
    lines.append(("report", str(page)))
    return lines
