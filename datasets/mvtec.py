"""The layout of MVTec AD (Bergmann et al. 2019), BTAD and MPDD."""

from collections.abc import Sequence
from pathlib import Path

from twonines.datasets.layout import (
    SIDES,
    class_name,
    existing,
    finish,
    folders,
    holding,
    leave_out,
    nearest,
    pictures,
)
from twonines.datasets.mask_sources import MaskFile, MaskRule
from twonines.datasets.record import Archive, Dataset, DatasetCard, Record
from twonines.errors import DatasetError
from twonines.types import GOOD

_TRAP = (
    "The official training split has no defects, so teaching classes needs --split grouped. "
    "Choose categories by name, as in mvtec-ad:bottle,cable."
)
_SPLIT = "train and test folders; train holds good parts only"
CARD = DatasetCard(
    name="mvtec",
    title="MVTec layout of your own: <category>/train/good and test/<defect>",
    licence="your own",
    source="your own",
    official_split=_SPLIT,
    traps=_TRAP.replace("mvtec-ad", "mvtec"),
    tasks=("anomaly", "classify", "segment"),
)
MVTEC_AD = DatasetCard(
    name="mvtec-ad",
    title="MVTec AD, 15 categories, good parts and 73 kinds of defect with masks",
    licence="CC BY-NC-SA 4.0",
    source="Bergmann et al., CVPR 2019",
    official_split=_SPLIT,
    traps=_TRAP,
    folder="MVTec-AD",
    tasks=("anomaly", "classify", "segment"),
    classes=("good", "a name per kind of defect in each category"),
    published=(
        "image AUROC: PatchCore 99.1 (WRN-50), anomalib's own 98.0",
        "image AUROC: EfficientAD 98.8-99.1",
    ),
    download="Open www.mvtec.com/company/research/datasets/mvtec-ad, accept the licence and "
    "download the whole set.",
    archives=(
        Archive(
            "mvtec_anomaly_detection.tar.xz",
            sha256="cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d",
        ),
    ),
)
BTAD = DatasetCard(
    name="btad",
    title="BTAD, three products, ok and ko with masks",
    licence="none published; ask the authors",
    source="Mishra et al., ISIE 2021",
    official_split=_SPLIT,
    traps=_TRAP.replace("mvtec-ad:bottle,cable", "btad:01,02") + " One kind of defect, ko.",
    folder="BTAD",
    tasks=("anomaly", "segment"),
    classes=("good", "ko"),
    download="From the AVIRES laboratory, University of Udine.",
    archives=(
        Archive(
            "btad.zip",
            "https://avires.dimi.uniud.it/papers/btad/btad.zip",
            "461c9387e515bfed41ecaae07c50cf6b10def647b36c9e31d239ab2736b10d2a",
        ),
    ),
)
MPDD = DatasetCard(
    name="mpdd",
    title="MPDD, six kinds of painted metal parts with masks",
    licence="none published; ask the authors",
    source="Jezek et al., ICUMT 2021",
    official_split=_SPLIT,
    traps=_TRAP.replace("mvtec-ad:bottle,cable", "mpdd:tubes"),
    folder="MPDD",
    tasks=("anomaly", "classify", "segment"),
    classes=("good", "a name per kind of defect in each category"),
    download="Follow the download link of github.com/stepanje/MPDD and unpack the archive.",
)


def read(root: Path) -> Dataset:
    """Read your own set, one category or several."""
    return _read(CARD, root)


def read_mvtec_ad(root: Path) -> Dataset:
    """Read the 15 categories of MVTec AD, or those that are there."""
    return _read(MVTEC_AD, root)


def read_btad(root: Path) -> Dataset:
    """Read the categories 01, 02 and 03 of BTAD; its folders are named ok and ko."""
    return _read(BTAD, root)


def read_mpdd(root: Path) -> Dataset:
    """Read the categories of MPDD."""
    return _read(MPDD, root)


def _read(card: DatasetCard, root: Path) -> Dataset:
    """Read ``train/good/*.png``, ``test/<name>/*.png`` and ``ground_truth/<name>/*_mask.png``."""
    categories = _categories(card, root)
    base = categories[0] if len(categories) == 1 else categories[0].parent
    if {category.parent for category in categories} not in ({base}, {base.parent}):
        raise DatasetError(f"root: must hold one set of categories, {root} holds several")
    # Published masks have soft edges; of one's own anybody's tool may write class numbers.
    rule: MaskRule = "palette" if card is CARD else "above_127"
    records = [record for one in categories for record in _category(one, rule)]
    return finish(_card(card, root, categories), base, records)


def _card(card: DatasetCard, root: Path, categories: Sequence[Path]) -> DatasetCard:
    """The card, naming in front the folders beside the categories that only lack good parts."""
    if root in categories:
        return card
    beside = {place for one in categories for place in folders(one.parent)} - set(categories)
    left = sorted(place.name for place in beside if (place / "train").is_dir())
    return leave_out(card, len(left), f"categories without train/good ({', '.join(left)})")


def _categories(card: DatasetCard, root: Path) -> list[Path]:
    if not root.is_dir():
        raise DatasetError(f"root: must be the folder of {card.name}, {root} is no folder")
    found = nearest(root, _has_good)
    if not found:
        raise DatasetError(
            f"root: {card.name} must hold <category>/train/good, {root} holds {holding(root)}"
        )
    return found


def _has_good(category: Path) -> bool:
    train = category / "train"
    return train.is_dir() and any(class_name(one.name) == GOOD for one in folders(train))


def _category(root: Path, rule: MaskRule) -> list[Record]:
    return [
        Record(
            path,
            class_name(folder.name),
            official_split=side,
            mask=_mask(root / "ground_truth" / folder.name, path.stem, rule),
            attributes={"category": root.name},
        )
        for side in SIDES
        if (root / side).is_dir()
        for folder in folders(root / side)
        for path in pictures(folder)
    ]


def _mask(folder: Path, stem: str, rule: MaskRule) -> MaskFile | None:
    """The mask of a picture: MVTec and MPDD add ``_mask``, BTAD keeps the name."""
    for name in (f"{stem}_mask.png", f"{stem}.png", f"{stem}.bmp"):
        if mask := existing(folder / name, rule):
            return mask
    return None
