"""KolektorSDD and KolektorSDD2: electrical commutators and surfaces (Tabernik 2019, Bozic 2021)."""

from pathlib import Path

from twonines.datasets.layout import SIDES, find_by, find_root, finish, pictures
from twonines.datasets.mask_sources import MaskFile
from twonines.datasets.masks import read_mask_file
from twonines.datasets.record import DEFECTIVE, Archive, Dataset, DatasetCard, Record
from twonines.types import GOOD

CARD = DatasetCard(
    name="kolektor-sdd",
    title="KolektorSDD, 399 commutator surfaces of 50 parts with masks",
    licence="CC BY-NC-SA 4.0",
    source="Tabernik et al., Journal of Intelligent Manufacturing 31, 2019",
    official_split="none; split by part (kosNN)",
    traps="kos26 repeats kos01 and kos27 repeats kos34, with different masks: each pair is one "
    "group here. Positive masks are palette bitmaps that one library reads as 1 and another as "
    "255; every non-zero index marks a defect. A picture is defective where its mask marks any "
    "pixel.",
    folder="KolektorSDD",
    tasks=("classify", "segment"),
    classes=(GOOD, DEFECTIVE),
    published=(
        "AP 99.9, Tabernik 2019",
        "100 % detection, 3 folds by part, Bozic 2020 (segdec-net)",
    ),
    download="From vicos.si, resources, KolektorSDD.",
    archives=(
        Archive(
            "KolektorSDD.zip",
            "https://go.vicos.si/kolektorsdd",
            "65dc621693418585de9c4467d1340ea7958a6181816f0dc2883a1e8b61f9d4dc",
        ),
    ),
)
CARD_2 = DatasetCard(
    name="kolektor-sdd2",
    title="KolektorSDD2, 3,335 surfaces with masks, official split",
    licence="CC BY-NC-SA 4.0",
    source="Bozic et al., Computers in Industry 129, 2021",
    official_split="train and test folders (2,331 and 1,004 pictures)",
    traps="Sizes differ by a few pixels. A picture is defective where its mask marks any pixel; "
    "files that are not named by a number alone are stray copies and are passed over.",
    folder="KolektorSDD2",
    tasks=("classify", "segment"),
    classes=(GOOD, DEFECTIVE),
    published=("AP 95.4, fully supervised, Bozic 2021",),
    download="From vicos.si, resources, KolektorSDD2.",
    archives=(
        Archive(
            "KolektorSDD2.zip",
            "https://go.vicos.si/kolektorsdd2",
            "edcdb486809b24f1d17b785e30c52fafc5999554dd5fe18ddf77b61ceb6f36a8",
        ),
    ),
)
_REPEATED = {"kos01": "kos01+kos26", "kos26": "kos01+kos26"} | {
    "kos27": "kos27+kos34",
    "kos34": "kos27+kos34",
}


def read(root: Path) -> Dataset:
    """Read ``kosNN/PartM.jpg`` with ``PartM_label.bmp``."""
    root = find_by(root, "KolektorSDD", "folders kos01 to kos50", lambda p: any(p.glob("kos*/")))
    records = []
    for part in sorted(root.glob("kos*/")):
        for path in pictures(part):
            if path.stem.endswith("_label"):
                continue
            mask = MaskFile(part / f"{path.stem}_label.bmp", "palette")
            group = _REPEATED.get(part.name, part.name)
            records.append(Record(path, _class(mask), group=group, mask=mask))
    return finish(CARD, root, records)


def read_2(root: Path) -> Dataset:
    """Read ``{train,test}/NNNNN.png`` with ``NNNNN_GT.png``."""
    root = find_root(root, "KolektorSDD2", "train")
    records = []
    for side in SIDES:
        for path in pictures(root / side):
            if path.stem.isdigit():
                mask = MaskFile(root / side / f"{path.stem}_GT.png", "palette")
                records.append(Record(path, _class(mask), official_split=side, mask=mask))
    return finish(CARD_2, root, records)


def _class(mask: MaskFile) -> str:
    """Every picture has a mask, so one that is missing says nothing and is no good part.

    Raises:
        MaskError: it is missing or cannot be decoded.
    """
    return DEFECTIVE if read_mask_file(mask).any() else GOOD
