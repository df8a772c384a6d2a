"""The MVTec AD layout, shared by BTAD and MPDD (Bergmann et al. 2019)."""

from pathlib import Path
from typing import Literal

from twonines.datasets.layout import class_name, find_root, finish, folders, pictures
from twonines.datasets.record import Dataset, DatasetCard, Record

CARD = DatasetCard(
    name="mvtec",
    title="MVTec layout: one category with train/good and test/<defect>",
    licence="of the set itself; MVTec AD is CC BY-NC-SA 4.0",
    source="Bergmann et al., CVPR 2019",
    official_split="train and test folders; train holds good parts only",
    traps="The official training split has no defects, so teaching classes needs "
    "--split grouped; point --root at one category.",
)
_SIDES: tuple[Literal["train", "test"], ...] = ("train", "test")


def read(root: Path) -> Dataset:
    """Read ``train/good/*.png``, ``test/<name>/*.png`` and ``ground_truth/<name>/*_mask.png``."""
    root = find_root(root, "one category in the MVTec layout", "train/good", "train/ok")
    records = []
    for side in _SIDES:
        for folder in folders(root / side) if (root / side).is_dir() else []:
            for path in pictures(folder):
                records.append(
                    Record(
                        path,
                        class_name(folder.name),
                        official_split=side,
                        mask=_mask(root / "ground_truth" / folder.name, path.stem),
                    )
                )
    return finish(CARD, root, records)


def _mask(folder: Path, stem: str) -> Path | None:
    """The mask of a picture: MVTec and MPDD add ``_mask``, BTAD keeps the name."""
    for name in (f"{stem}_mask.png", f"{stem}.png", f"{stem}.bmp"):
        if (folder / name).exists():
            return folder / name
    return None
