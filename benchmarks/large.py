"""Large pictures and small defects: a model taught on tiles finds spots of a few pixels.

``python -m twonines.benchmarks.large``. Generated brushed metal: streaks, uneven light and grain,
with a dark spot of 6 pixels on the defective parts. A map is taught on pieces of the model's input
size, `twonines tile --good` sets the model to work in tiles and its threshold and limits on large
good pictures, and other large pictures tell how many spots are found and how many good pictures
are rejected.
"""

import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image as PILImage
from rich.console import Console
from rich.progress import track
from scipy import ndimage

from twonines.benchmarks import statistics as st
from twonines.benchmarks.evaluate import rate_json
from twonines.benchmarks.teaching import teach_and_measure
from twonines.datasets.mask_sources import MaskFile
from twonines.datasets.record import Dataset, DatasetCard, Record
from twonines.models.inspector import Inspector
from twonines.models.session import InspectionSession
from twonines.training.features import default_cache
from twonines.training.merged import HIGHEST
from twonines.training.retile import tile_model
from twonines.training.teach_options import TeachOptions
from twonines.types import GOOD, FloatArray, Image, Verdict

SPOT = "spot"
TILE = 224
BATCH = 32
CARD = DatasetCard(
    name="brushed-metal", title="Generated brushed metal with dark spots", licence="CC0",
    source="twonines.benchmarks.large", official_split="none", traps="Generated.",
    tasks=("segment",),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Looks:
    """How defects look: the diameter of a spot in pixels, and how much darker its middle is."""

    pixels: float = 6.0
    depth: float = 60.0


def brushed_metal(size: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """A surface (height, width) in grey values: streaks along the rows, uneven light, grain."""
    height, width = size
    streaks = ndimage.uniform_filter1d(
        rng.normal(0, 40, (height, width)).astype(np.float32), min(61, width), axis=1
    )
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
    light = 20 * (np.sin(angle) * y + np.cos(angle) * x)
    grain = rng.standard_normal((height, width), np.float32) * 5
    surface: FloatArray = (rng.uniform(120, 150) + light + streaks + grain).astype(np.float32)
    return surface


def add_spot(
    surface: FloatArray, looks: Looks, rng: np.random.Generator
) -> tuple[tuple[int, int], FloatArray]:
    """Darken one round spot in place; gives its middle (y, x) and its mask (height, width)."""
    margin = int(looks.pixels) + 2
    y, x = (int(rng.integers(margin, side - margin)) for side in surface.shape)
    rows, columns = np.ogrid[-margin : margin + 1, -margin : margin + 1]
    # One pixel of soft edge, as a lens makes it.
    cover = np.clip(looks.pixels / 2 + 0.5 - np.hypot(rows, columns), 0, 1)
    place = (slice(y - margin, y + margin + 1), slice(x - margin, x + margin + 1))
    surface[place] -= looks.depth * cover
    mask = np.zeros(surface.shape, np.float32)
    mask[place] = cover
    return (y, x), mask


def to_image(surface: FloatArray) -> Image:
    """Grey values as (height, width, 3) uint8 RGB."""
    grey = np.clip(surface, 0, 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, 2)


def make_pieces(root: Path, count: int, side: int, looks: Looks, seed: int) -> Dataset:
    """``count`` good and ``count`` defective pieces with masks, for teaching."""
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    records = []
    for index in range(2 * count):
        surface, mask = brushed_metal((side, side), rng), None
        if index % 2:
            _, cover = add_spot(surface, looks, rng)
            mask = MaskFile(root / f"{index}_mask.png")
            PILImage.fromarray((cover >= 0.5).astype(np.uint8) * 255).save(mask.path)
        path = root / f"{index}.png"
        PILImage.fromarray(to_image(surface)).save(path)
        records.append(Record(path, SPOT if index % 2 else GOOD, mask=mask))
    return Dataset(CARD, root, tuple(records))


def write_good(folder: Path, count: int, side: int, seed: int) -> Path:
    """Large good pictures for `tile`, whose threshold and limits they set."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    label = "good pictures to set the threshold on"
    for index in track(range(count), label, console=Console(stderr=True)):
        grey = to_image(brushed_metal((side, side), rng))[:, :, 0]
        PILImage.fromarray(grey).save(folder / f"{index}.png", compress_level=1)
    return folder


@dataclass(frozen=True, slots=True)
class Seen:
    """What the tiled model said of one large picture.

    ``at_spot`` says whether a region lies on the spot; None for a good picture.
    """

    score: float
    verdict: Verdict
    at_spot: bool | None
    seconds: float
    tiles: int


def look(
    inspector: Inspector, count: int, side: int, looks: Looks, *, defective: bool, seed: int
) -> Iterator[Seen]:
    """Inspect generated large pictures; the seconds are those of preparing and inspecting."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        surface = brushed_metal((side, side), rng)
        spot = add_spot(surface, looks, rng)[0] if defective else None
        image = to_image(surface)
        start = time.perf_counter()
        picture = inspector.prepare(image)
        outputs = inspector.outputs(picture, BATCH)
        found = inspector.decide(outputs, [picture])[0]
        seconds = time.perf_counter() - start
        hit = None
        if spot is not None:
            y, x = spot
            hit = any(r.box[0] <= x < r.box[2] and r.box[1] <= y < r.box[3] for r in found.regions)
        score = float("nan") if found.score is None else found.score
        yield Seen(score, found.verdict, hit, seconds, len(picture))


def run_large(
    pictures: int, held: int, side: int, pieces: int, looks: Looks, *, seed: int, cache: Path,
    tile: int = TILE,
) -> dict[str, Any]:  # fmt: skip
    """Teach, tile with ``held`` good pictures, and look at twice ``pictures`` others."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        dataset = make_pieces(place / "pieces", pieces, tile, looks, seed)
        options = TeachOptions(input_size=tile)
        taught = teach_and_measure(dataset, place / "run", options, seed=seed, cache=cache)
        card = tile_model(
            taught.model, place / "tiled.onnx", overlap=0.25, scale=1.0,
            good=write_good(place / "good", held, side, seed + 1),
        )  # fmt: skip
        session = InspectionSession.load(place / "tiled.onnx")
    inspector = Inspector(session)
    seen: dict[bool, list[Seen]] = {}
    for defective in (False, True):
        stream = look(
            inspector, pictures, side, looks, defective=defective, seed=seed + 2 + defective
        )
        label = "defective pictures" if defective else "good pictures"
        seen[defective] = list(track(stream, label, pictures, console=Console(stderr=True)))
    every = [*seen[False], *seen[True]]
    rejected = {key: [s.verdict is not Verdict.OK for s in group] for key, group in seen.items()}
    found = [bool(r and s.at_spot) for r, s in zip(rejected[True], seen[True], strict=True)]
    return {
        "side": side,
        "spot_pixels": looks.pixels,
        "spot_depth": looks.depth,
        "pieces_taught": len(taught.split.train),
        "pieces_auroc": taught.card.metrics["auroc"].value,
        "teach_seconds": sum(taught.seconds.values()),
        "tiles": every[0].tiles,
        "taught_threshold": taught.card.policy.threshold,
        "threshold": card.policy.threshold,
        "highest_good_held_out": card.calibration.parameters[HIGHEST],
        "recall": rate_json(st.rate(sum(rejected[True]), pictures)),
        "recall_at_the_spot": rate_json(st.rate(sum(found), pictures)),
        "overkill": rate_json(st.rate(sum(rejected[False]), pictures)),
        "scores": {"good": [s.score for s in seen[False]], "spot": [s.score for s in seen[True]]},
        "seconds_per_picture": float(np.median([s.seconds for s in every])),
        "execution_provider": session.execution_provider,
    }


def main(
    pictures: Annotated[int, typer.Option(min=1, help="Good ones, and as many defective.")] = 20,
    held: Annotated[int, typer.Option(min=1, help="Good ones for `tile --good`.")] = 10,
    side: Annotated[int, typer.Option(min=256, help="Side of a large picture in pixels.")] = 4096,
    pieces: Annotated[int, typer.Option(min=40, help="Good and defective pieces taught.")] = 150,
    spot: Annotated[float, typer.Option(min=2, help="Diameter of a spot in pixels.")] = 6.0,
    depth: Annotated[float, typer.Option(min=5, help="Grey values that a spot is darker.")] = 60.0,
    tile: Annotated[int, typer.Option(min=64, help="Side of a tile in pixels.")] = TILE,
    seed: int = 0,
    out: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
) -> None:
    """Measure recall, overkill and seconds on large pictures with small spots."""
    result = run_large(
        pictures, held, side, pieces, Looks(spot, depth), seed=seed, cache=default_cache(),
        tile=tile,
    )  # fmt: skip
    text = json.dumps(result, indent=2)
    typer.echo(text)
    if out:
        out.write_text(text + "\n")


if __name__ == "__main__":
    typer.run(main)
