"""What teaching costs: pictures to model file, against one pass of the bare session.

``python -m twonines.benchmarks.teach_cost``. Both run in one process on the same pictures; the
feature cache is empty, the backbone's graph is exported before (its own seconds are given too).
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from twonines.benchmarks.teaching import teach_and_measure
from twonines.benchmarks.throughput.ways import session_seconds
from twonines.datasets.registry import load_dataset
from twonines.models.backbone import Backbone
from twonines.models.image import load
from twonines.models.session import InspectionSession
from twonines.training.export import export_backbone
from twonines.training.teach import choose_input_size
from twonines.training.teach_options import TeachOptions


def measure_teaching(dataset_name: str, root: Path | None, rounds: int) -> dict[str, Any]:
    """Seconds of each stage and the ratios to one pass; median of ``rounds``."""
    dataset = load_dataset(dataset_name, root)
    size = choose_input_size(dataset)
    console = Console(stderr=True)
    passes, totals, gates, stages = [], [], [], []
    for number in range(rounds):
        console.print(f"round {number + 1}/{rounds}")
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            start = time.perf_counter()
            export_backbone(Backbone(), size, place / "cache")
            once = time.perf_counter() - start
            result = teach_and_measure(
                dataset, place / "run", TeachOptions(input_size=size), cache=place / "cache"
            )
            session = InspectionSession.load(result.model, execution_provider="cpu")
            images = np.stack([load(r.path, session.input_size) for r in dataset.records])
            session_seconds(session, images[:64])
            passes.append(session_seconds(session, images))
            seconds = result.seconds
            gates.append(seconds["parity"])
            totals.append(sum(seconds.values()))
            stages.append(seconds | {"backbone_export_once": once})
    one = float(np.median(passes))
    return {
        "dataset": dataset_name,
        "pictures": len(dataset.records),
        "input_size": list(size),
        "pass_seconds": passes,
        "teach_seconds": totals,
        "of_which_parity_gate_seconds": gates,
        "stages": stages,
        "ratio": float(np.median(totals)) / one,
        "ratio_without_gate": float(np.median(np.subtract(totals, gates))) / one,
    }


def main(
    dataset: Annotated[str, typer.Option(help="Name of the set.")] = "elpv",
    root: Annotated[Path | None, typer.Option(help="Folder of the set.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Measured rounds.")] = 3,
) -> None:
    """Measure teaching against one pass of the bare session, in one run."""
    typer.echo(json.dumps(measure_teaching(dataset, root, rounds), indent=2))


if __name__ == "__main__":
    typer.run(main)
