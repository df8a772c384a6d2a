"""SD-saliency-900: hot-rolled strip, three classes with pixel masks (Song et al. 2020)."""

from pathlib import Path

from twonines.datasets.layout import existing, find_root, finish, pictures
from twonines.datasets.neu_cls import NAMES
from twonines.datasets.record import Dataset, DatasetCard, Record
from twonines.errors import DatasetError

CARD = DatasetCard(
    name="sd-saliency-900",
    title="SD-saliency-900, hot-rolled strip, three classes with masks",
    licence="none stated; cite Song et al. 2020",
    source="Song et al., Optics and Lasers in Engineering 128, 2020",
    official_split="none",
    traps="No good class. Pictures and indices are those of NEU-DET (Pa_101 equals Pa_105).",
    turns=2,
    folder="SD-saliency-900",
    tasks=("classify", "segment"),
    classes=("inclusion", "patches", "scratches"),
    download="Get the archive from github.com/SongGuorong/MCITF and unpack it, so that 'Source "
    "Images' and 'Ground truth' lie side by side.",
)


def read(root: Path) -> Dataset:
    """Read ``Source Images/In_1.bmp`` with ``Ground truth/In_1.png``."""
    root = find_root(root, "SD-saliency-900", "Source Images")
    records = []
    for path in pictures(root / "Source Images"):
        short = path.stem.rpartition("_")[0]
        if short not in NAMES:
            raise DatasetError(f"{path}: must be named after one of {', '.join(NAMES)}")
        mask = existing(root / "Ground truth" / f"{path.stem}.png")
        records.append(Record(path, NAMES[short], mask=mask))
    return finish(CARD, root, records)
