"""The published sets, where TWONINES_DATA names the folder above them."""

import os
import warnings
from pathlib import Path

import pytest
from PIL import Image

from twonines.datasets.checks import check_dataset
from twonines.datasets.mask_sources import MaskFile
from twonines.datasets.masks import read_mask, read_mask_file
from twonines.datasets.registry import CARDS, load_dataset
from twonines.datasets.splits import make_split


def picture_size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.height, image.width


# pictures, classes, masks, exact duplicates, kinds of fault: of the parts these tests are run on
SETS = {
    "neu-det": (1440, 6, 720, 1, {"box_class"}),
    "x-sdd": (1360, 7, 0, 9, set[str]()),
    "magnetic-tile": (1051, 6, 1051, 0, {"mask_empty"}),
    "deep-pcb": (1000, 1, 0, 0, set[str]()),
    "rsdds": (195, 1, 195, 14, set[str]()),
    "bsdata": (324, 1, 324, 0, set[str]()),
    "crack-forest": (118, 1, 118, 0, set[str]()),
}


def need(name: str) -> None:
    data = os.environ.get("TWONINES_DATA")
    if data is None:
        pytest.skip("TWONINES_DATA is unset: the folder of the published sets")
    if not (Path(data) / str(CARDS[name].folder)).is_dir():
        pytest.skip(f"{name} is not in TWONINES_DATA")


@pytest.mark.parametrize("name", SETS)
def test_counts_masks_and_traps(name: str) -> None:
    need(name)
    pictures, classes, masks, copies, kinds = SETS[name]
    dataset = load_dataset(name)
    assert len(dataset.records) == pictures and len(dataset.classes) == classes
    assert dataset.has_good == (name == "magnetic-tile")
    assert sum(record.mask is not None for record in dataset.records) == masks
    assert set(dataset.classes) <= {*dataset.card.classes, "defective"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = check_dataset(dataset, make_split(dataset))
    assert report.unreadable == () and not report.leaks
    assert len(report.exact_duplicates) == copies
    assert {kind for _, kind, _ in report.faults} <= kinds


def test_deep_pcb_has_boxes_and_templates() -> None:
    need("deep-pcb")
    records = load_dataset("deep-pcb").records
    assert all(record.boxes and record.reference for record in records)
    assert {r.official_split for r in records} == {"train"}
    assert len({r.group for r in records}) == 7


def test_sd_saliency_masks_fit_neu_det() -> None:
    need("neu-det")
    records = load_dataset("neu-det").records
    marked = [r for r in records if r.mask is not None]
    assert {r.defect_class for r in marked} == {"inclusion", "patches", "scratches"}
    for record in marked[::40]:
        mask = read_mask(record, (200, 200))
        assert mask is not None and 0 < mask.mean() < 0.9


def test_crack_forest_mat_and_png_agree() -> None:
    need("crack-forest")
    dataset = load_dataset("crack-forest")
    assert dataset.card.traps.startswith("37 pictures")
    for record in dataset.records[::10]:
        png = dataset.root / "Masks" / f"{record.path.stem}_label.PNG"
        first = read_mask(record, (320, 480))
        assert first is not None
        if png.is_file():
            assert (first == read_mask_file(MaskFile(png, "nonzero"))).all()


def test_bsdata_masks_lie_in_their_boxes() -> None:
    need("bsdata")
    for record in load_dataset("bsdata").records[::20]:
        mask = read_mask(record, picture_size(record.path))
        assert mask is not None and mask.any()
        rows, columns = mask.nonzero()
        assert min(b.x_min for b in record.boxes) - 1 <= columns.min()
        assert max(b.y_max for b in record.boxes) + 1 >= rows.max()
