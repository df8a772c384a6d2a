"""What each task costs: seconds to teach, and pictures a second beside the bare backbone.

``python -m twonines.benchmarks.head_cost magnetic-tile``. The same pictures teach every task; then
each model's session and the bare backbone's run over the same batch in turns, so that both share
whatever else the machine does. With ``--model`` a model that is there is measured instead, such as
one of the recipe ``finetune``.
"""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from twonines.benchmarks.teaching import teach_and_measure
from twonines.datasets.record import Dataset, Record
from twonines.datasets.registry import load_dataset
from twonines.errors import SettingsError
from twonines.models.backbone import FrozenNetwork
from twonines.models.image import load
from twonines.models.providers import available_threads, make_runtime
from twonines.models.session import InspectionSession
from twonines.training.export import export_backbone
from twonines.training.features import default_cache
from twonines.training.teach_options import TaskChoice, TeachOptions
from twonines.types import Image

TASKS: tuple[TaskChoice, ...] = ("classify", "segment", "anomaly")
BATCH = 32
ROUNDS = 15
AIM = 1.3
"""Times the bare backbone that a model with its heads may take."""


class BareNetwork(FrozenNetwork):
    """The whole network up to its mean features, with no head of ours."""

    output_names: ClassVar[tuple[str, ...]] = ("mean",)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """Give the mean (N, 1280) of the last layer's places."""
        x = self.net.blocks(self.stem(images))
        return (self.net.bn2(self.net.conv_head(x)).mean((2, 3)),)


def time_beside(
    bare: Callable[[Image], object],
    whole: Callable[[Image], object],
    images: Image,
    rounds: int = ROUNDS,
) -> dict[str, float]:
    """Pictures a second of both, and the median ratio of their times over alternating rounds."""
    bare(images), whole(images)
    pairs = []
    for _ in range(rounds):
        start = time.perf_counter()
        bare(images)
        middle = time.perf_counter()
        whole(images)
        pairs.append((middle - start, time.perf_counter() - middle))
    alone, both = np.median(pairs, axis=0)
    return {
        "backbone_per_second": len(images) / float(alone),
        "model_per_second": len(images) / float(both),
        "time_to_backbone": float(np.median([b / a for a, b in pairs])),
    }


def measure_beside(
    session: InspectionSession, records: Sequence[Record], *, cache: Path, rounds: int = ROUNDS
) -> dict[str, Any]:
    """A model beside the bare backbone on the first pictures of a set, as a row.

    Raises:
        SettingsError: the model compares pairs, which a bare backbone does not.
    """
    if session.card.reference:
        raise SettingsError("model: must look at single pictures, got a model of pairs")
    size = session.input_size
    runtime = make_runtime(
        export_backbone(BareNetwork(), size, cache).read_bytes(), "cpu", available_threads()
    )
    images = np.stack([load(record.path, size) for record in records[:BATCH]])
    return {
        "task": session.card.task,
        "input_size": size[0],
        "threads": available_threads(),
        **time_beside(
            lambda batch: runtime.run(None, {"images": batch}), session.run, images, rounds
        ),
    }


def measure_task(
    dataset: Dataset, task: TaskChoice, side: int, *, cache: Path, rounds: int = ROUNDS
) -> dict[str, Any]:
    """Teach a task and measure its model; the export of its backbone is not in its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        options = TeachOptions(input_size=side, task=task)
        # Features of another task must not be found: each is taught as if it were alone.
        own = Path(folder) / "cache"
        own.mkdir()
        (own / "backbones").symlink_to((cache / "backbones").resolve())
        teach_and_measure(dataset, Path(folder) / "warm", options, cache=cache)
        result = teach_and_measure(dataset, Path(folder) / "run", options, cache=own)
        session = InspectionSession.load(result.model, execution_provider="cpu")
    spent = result.seconds
    return {
        "pictures_taught": len(result.split.train),
        "teach_seconds": sum(spent.values()) - spent["parity"],
        "gate_seconds": spent["parity"],
        "seconds": spent,
        "metrics": {name: m.value for name, m in result.card.metrics.items()},
        **measure_beside(session, dataset.records, cache=cache, rounds=rounds),
    }


def main(
    dataset: Annotated[str, typer.Argument(help="A set with masks and good parts.")],
    root: Annotated[
        Path | None, typer.Option(envvar="TWONINES_DATA", help="Folder of the set, or above it.")
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="Repeat it; default all three.")] = None,
    model: Annotated[
        list[Path] | None, typer.Option(help="Measure this model and teach none; repeat it.")
    ] = None,
    side: Annotated[int, typer.Option(min=64, help="Side of the input in pixels.")] = 224,
    pictures: Annotated[int, typer.Option(min=60, help="Pictures at most, every k-th.")] = 400,
    rounds: Annotated[int, typer.Option(min=3, help="Timed rounds.")] = ROUNDS,
    out: Annotated[Path | None, typer.Option(help="Write the rows as JSON.")] = None,
) -> None:
    """Measure teaching and inspecting for each task on the same pictures."""
    unknown = sorted(set(task or ()) - set(TASKS))
    if unknown:
        raise typer.BadParameter(f"task: must be among {', '.join(TASKS)}, got {unknown}")
    whole = load_dataset(dataset, root)
    step = -(-len(whole.records) // pictures)
    some = replace(whole, records=whole.records[::step])
    cache = default_cache()
    if model:
        loaded = [InspectionSession.load(one, execution_provider="cpu") for one in model]
        rows = [measure_beside(one, some.records, cache=cache, rounds=rounds) for one in loaded]
    else:
        chosen = [name for name in TASKS if not task or name in task]
        rows = [measure_task(some, one, side, cache=cache, rounds=rounds) for one in chosen]
    table = Table(
        "task", "side", "taught", "teach s", "gate s", "pictures/s", "bare backbone", "time to it"
    )
    for row in rows:
        table.add_row(
            row["task"],
            str(row["input_size"]),
            str(row.get("pictures_taught", "")),
            f"{row['teach_seconds']:.1f}" if "teach_seconds" in row else "",
            f"{row['gate_seconds']:.1f}" if "gate_seconds" in row else "",
            f"{row['model_per_second']:.0f}",
            f"{row['backbone_per_second']:.0f}",
            f"{row['time_to_backbone']:.2f}" + (" > aim" * (row["time_to_backbone"] > AIM)),
        )
    Console(width=100).print(table)
    if out:
        out.write_text(json.dumps({"dataset": dataset, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
