"""How soon does the validity watch withdraw a certificate, and how seldom without cause?

``python -m twonines.benchmarks.drift CERTIFIED.onnx --dataset elpv``. The model's test pictures,
plain and changed, are inspected once. Streams are drawn from these with replacement: some stay
plain to the end and count false alarms, others change after ``--before`` pictures and count the
pictures until the withdrawal. ``mix`` changes nothing but the share of defective parts, and must
raise no alarm.
"""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from PIL import Image as PILImage
from rich.console import Console
from rich.table import Table
from scipy import ndimage

from twonines.benchmarks import statistics as st
from twonines.benchmarks.evaluate import judge_records, rate_json, rebuild_split
from twonines.datasets.record import Record
from twonines.datasets.registry import load_dataset
from twonines.errors import DatasetError
from twonines.models.certificate import WatchCut
from twonines.models.image import decode
from twonines.models.session import InspectionSession
from twonines.serving.watch import THRESHOLD, Evidence, crossed
from twonines.types import Image, Verdict

Events = npt.NDArray[np.bool_]


def _light(factor: float) -> Callable[[Image], Image]:
    return lambda image: np.clip(image * factor, 0, 255).astype(np.uint8)


def _blur(sigma: float) -> Callable[[Image], Image]:
    return lambda image: ndimage.gaussian_filter(image, (sigma, sigma, 0))


DRIFTS: dict[str, Callable[[Image], Image]] = {
    "light x 0.9": _light(0.9),
    "light x 0.7": _light(0.7),
    "light x 1.3": _light(1.3),
    "light x 1.6": _light(1.6),
    "blur 1 px": _blur(1),
    "blur 2 px": _blur(2),
    "blur 4 px": _blur(4),
}


def inspect_events(
    session: InspectionSession, records: Sequence[Record], cuts: Sequence[WatchCut]
) -> tuple[Events, float]:
    """Events (N, C) of the pictures, and the share of them that the verdict already accepts."""
    found = judge_records(session, records).inspections
    rows = [
        crossed(cuts, {**i.quality, "score": i.score, "novelty": i.novelty})
        for i in found
        if i.score is not None and i.novelty is not None
    ]
    return np.array(rows, bool), sum(i.verdict is Verdict.OK for i in found) / len(found)


def changed(records: Sequence[Record], change: Callable[[Image], Image], folder: Path) -> list[
    Record
]:  # fmt: skip
    """The pictures changed and written as PNG, so that they go the whole way of an upload."""
    folder.mkdir(parents=True, exist_ok=True)
    result = []
    for index, record in enumerate(records):
        path = folder / f"{index}.png"
        out = io.BytesIO()
        PILImage.fromarray(change(decode(record.path.read_bytes()))).save(out, "PNG")
        path.write_bytes(out.getvalue())
        result.append(Record(path, record.defect_class))
    return result


def first_alarms(
    cuts: Sequence[WatchCut], before: Events, after: Events, *, change: int, length: int,
    streams: int, seed: int,
) -> npt.NDArray[np.int64]:  # fmt: skip
    """The picture at which each stream withdraws, from 1 on; 0 where none does.

    Args:
        cuts: the certificate's.
        before: (N, C) events that are drawn from until picture ``change``.
        after: (M, C) events from then on.
        change: pictures before the change.
        length: pictures of a stream.
        streams: how many.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    evidence, alarms = Evidence(cuts, streams), np.zeros(streams, np.int64)
    for index in range(length):
        pool = before if index < change else after
        value = evidence.add(pool[rng.integers(len(pool), size=streams)])
        alarms[(alarms == 0) & (value >= THRESHOLD)] = index + 1
        if alarms.all():
            break
    return alarms


def run_drift(
    model: Path, dataset: str, root: Path | None, work: Path, *, other: str | None = None,
    other_root: Path | None = None, pictures: int = 200, before: int = 1000, length: int = 5000,
    streams: int = 1000, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Measure false alarms and delays; gives one row for each drift.

    Raises:
        DatasetError: the model holds no certificate with cuts to watch.
    """
    session = InspectionSession.load(model, execution_provider="cpu")
    certificate = session.card.certificate
    if certificate is None or not certificate.watch:
        raise DatasetError(f"model: {model} must hold a certificate with a watch, got none")
    cuts = certificate.watch
    test = list(rebuild_split(session.card, load_dataset(dataset, root)).test)
    plain, accepted = inspect_events(session, test, cuts)
    bad = np.array([record.is_defective for record in test])
    settings = {"length": length, "streams": streams, "seed": seed}
    rows = []
    for name, pool in {
        "none": plain,
        "mix: good only": plain[~bad],
        "mix: bad only": plain[bad],
    }.items():
        alarms = first_alarms(cuts, pool, pool, change=0, **settings)
        rate = rate_json(st.rate(int((alarms > 0).sum()), streams))
        rows.append({"drift": name, "false_alarms": rate, "accepted": accepted})
    some = [test[i] for i in np.random.default_rng(seed).permutation(len(test))[:pictures]]
    sets = {name: changed(some, f, work / name.replace(" ", "-")) for name, f in DRIFTS.items()}
    if other:
        records = load_dataset(other, other_root).records
        order = np.random.default_rng(seed).permutation(len(records))[:pictures]
        sets[f"product: {other}"] = [records[i] for i in order]
    for name, records_of in sets.items():
        events, ok = inspect_events(session, records_of, cuts)
        alarms = first_alarms(
            cuts, plain, events, change=before, length=before + length, streams=streams // 5,
            seed=seed,
        )  # fmt: skip
        late = alarms[alarms > before] - before
        rows.append(
            {
                "drift": name,
                "accepted": ok,
                "found": rate_json(st.rate(len(late), len(alarms))),
                "median": float(np.median(late)) if len(late) else None,
                "p90": float(np.quantile(late, 0.9)) if len(late) else None,
            }
        )
    return {"certificate": certificate.digest, "before": before, **settings, "rows": rows}


def main(
    model: Annotated[Path, typer.Argument(help="A certified model.")],
    dataset: Annotated[str, typer.Option(help="The set that it was taught on.")] = "elpv",
    root: Annotated[Path | None, typer.Option(help="Folder of the set.")] = None,
    other: Annotated[str | None, typer.Option(help="A set that stands for a new product.")] = None,
    other_root: Annotated[Path | None, typer.Option(help="Folder of the other set.")] = None,
    pictures: Annotated[int, typer.Option(min=1, help="Pictures that are changed.")] = 200,
    work: Annotated[Path, typer.Option(help="Folder for changed pictures.")] = Path("drift"),
    out: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
) -> None:
    """Inject drifts into real pictures and count what the watch does."""
    result = run_drift(
        model, dataset, root, work, other=other, other_root=other_root, pictures=pictures
    )
    table = Table(
        "drift", "OK before withdrawal", "found in 5,000", "median", "90 %", "false alarms"
    )
    for row in result["rows"]:
        found = row.get("found")
        false = row.get("false_alarms")
        table.add_row(
            row["drift"],
            f"{row['accepted']:.1%}",
            f"{found['value']:.1%}" if found else "",
            f"{row['median']:.0f}" if row.get("median") else "",
            f"{row['p90']:.0f}" if row.get("p90") else "",
            f"{false['k']} of {false['n']}" if false else "",
        )
    Console(width=110).print(table)
    if out:
        out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
