"""DeepPCB: bare boards beside their templates, six defects with boxes (Tang et al. 2019)."""

from pathlib import Path

from twonines.datasets.layout import Side, find_root, finish, read_text
from twonines.datasets.record import DEFECTIVE, Archive, Box, Dataset, DatasetCard, Record
from twonines.errors import DatasetError
from twonines.types import GOOD

KINDS = {1: "open", 2: "short", 3: "mousebite", 4: "spur", 5: "copper", 6: "pin-hole"}
CARD = DatasetCard(
    name="deep-pcb",
    title="DeepPCB, 1,500 pairs of board and template, six defects with boxes",
    licence="MIT; its README: research purpose only",
    source="Tang et al., arXiv 1902.06197, 2019",
    official_split="trainval.txt and test.txt",
    traps="Every board is defective; the good parts are the templates, given as reference. Three "
    "templates are identical, pictures are binarised, 62 files are colour-encoded. The lists "
    "name X.jpg, the files are X_test.jpg and X_temp.jpg.",
    folder="DeepPCB",
    tasks=("detect",),
    classes=tuple(KINDS.values()),
    published=("98.6 % mAP, 98.2 % F at IoU > 0.33, official split, DeepPCB README",),
    download="From github.com/tangsanli5201/DeepPCB.",
    archives=(Archive("DeepPCB.zip", "https://github.com/tangsanli5201/DeepPCB/archive/HEAD.zip"),),
)


def read(root: Path) -> Dataset:
    """Read ``PCBData/groupNNNNN/NNNNN/*_test.jpg`` with template, boxes and official side."""
    root = find_root(root, "DeepPCB", "PCBData")
    data = root / "PCBData"
    sides = _sides(data / "trainval.txt", "train") | _sides(data / "test.txt", "test")
    records = []
    for path in sorted(data.glob("group*/*/*_test.jpg")):
        stem = path.name.removesuffix("_test.jpg")
        group = path.parent.parent
        marks = group / f"{path.parent.name}_not" / f"{stem}.txt"
        template = path.with_name(f"{stem}_temp.jpg")
        boxes = read_boxes(marks)
        records.append(
            Record(
                path,
                DEFECTIVE if boxes else GOOD,
                group=group.name,
                official_split=sides.get(f"{group.name}/{path.parent.name}/{stem}.jpg"),
                boxes=boxes,
                reference=template if template.is_file() else None,
            )
        )
    return finish(CARD, root, records)


def _sides(path: Path, side: Side) -> dict[str, Side]:
    lines = read_text(path).splitlines() if path.is_file() else []
    return {line.split()[0]: side for line in lines if line.strip()}


def read_boxes(path: Path) -> tuple[Box, ...]:
    """Boxes of ``x1 y1 x2 y2 type`` lines, with spaces or commas.

    Raises:
        DatasetError: the file is missing or a line reads otherwise.
    """
    boxes = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            x1, y1, x2, y2, kind = (int(one) for one in line.replace(",", " ").split())
            boxes.append(Box(x1, y1, x2, y2, KINDS[kind]))
        except (KeyError, ValueError) as exc:
            raise DatasetError(
                f"{path} line {number}: must be 'x1 y1 x2 y2 type' with a type of 1 to 6, "
                f"got {line!r}"
            ) from exc
    return tuple(boxes)
