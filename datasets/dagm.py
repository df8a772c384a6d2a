"""DAGM 2007: ten generated textures with weak labels, official split."""

import re
from pathlib import Path

from twonines.datasets.layout import SIDES, find_by, finish, pictures, read_text
from twonines.datasets.mask_sources import MaskFile
from twonines.datasets.record import DEFECTIVE, Dataset, DatasetCard, Record
from twonines.types import GOOD

CARD = DatasetCard(
    name="dagm-2007",
    title="DAGM 2007, ten generated textures, good or defective, rough masks",
    licence="none stated; cite the DAGM 2007 competition (Wieler & Hahn)",
    source="Wieler & Hahn, DAGM Symposium 2007",
    official_split="Train and Test folders of each class",
    traps="Pictures are generated. Masks are rough ellipses, not outlines: quote no pixel figures. "
    "Each ClassN is a product with one kind of defect; choose with dagm-2007:Class1,Class2.",
    folder="DAGM2007",
    tasks=("classify", "detect"),
    classes=(GOOD, DEFECTIVE),
    download="Get Class1 to Class10 from hci.iwr.uni-heidelberg.de (weakly supervised learning for "
    "industrial optical inspection) or Kaggle mhskjelvareid/"
    "dagm-2007-competition-dataset-optical-inspection and unpack them side by side.",
)
_LABEL = re.compile(r"(\S+)_label\.png", re.IGNORECASE)


def read(root: Path) -> Dataset:
    """Read ``ClassN/{Train,Test}/NNNN.PNG`` with ``Label/NNNN_label.PNG``."""
    root = find_by(root, "DAGM 2007", "folders Class1 to Class10", _fits)
    records = []
    for product in sorted(root.glob("Class*/")):
        for side in SIDES:
            folder = product / side.capitalize()
            marked = _marked(folder / "Label")
            for path in pictures(folder):
                mask = marked.get(path.stem)
                records.append(
                    Record(
                        path,
                        DEFECTIVE if mask else GOOD,
                        official_split=side,
                        mask=MaskFile(mask, "nonzero") if mask else None,
                        attributes={"category": product.name},
                    )
                )
    return finish(CARD, root, records)


def _fits(folder: Path) -> bool:
    return any(folder.glob("Class*/Train")) or any(folder.glob("Class*/Test"))


def _marked(folder: Path) -> dict[str, Path]:
    """Mask by stem: those that Labels.txt names, whether there or not, and those that are there."""
    table = folder / "Labels.txt"
    named = _LABEL.findall(read_text(table)) if table.is_file() else []
    marked = {stem: folder / f"{stem}_label.PNG" for stem in named}
    for path in pictures(folder):
        if found := _LABEL.fullmatch(path.name):
            marked[found[1]] = path
    return marked
