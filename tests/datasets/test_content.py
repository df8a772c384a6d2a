import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.datasets import archives
from twonines.datasets.content import content_digest, label_digest
from twonines.datasets.mask_sources import (
    MaskFile,
    MaskMat,
    MaskPolygons,
    MaskRuns,
    MaskUnion,
)
from twonines.datasets.record import Box, Record
from twonines.datasets.registry import load_dataset

RING = ((2.0, 2.0), (9.0, 2.0), (9.0, 9.0))


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """A part with a box, a mask of every kind and a reference."""
    mask = archives.mask(tmp_path / "m.png")
    sources = (
        MaskFile(mask), MaskPolygons((RING,)), MaskRuns(((0, 2),)), MaskMat(mask, "v", "f", 2)
    )  # fmt: skip
    return Record(
        archives.picture(tmp_path / "a.png", 1),
        "dent",
        mask=MaskUnion(sources),
        boxes=(Box(2, 2, 9, 9, "dent"),),
        reference=archives.picture(tmp_path / "r.png", 2),
    )


@pytest.mark.parametrize(
    "change",
    [
        {"boxes": (Box(2, 2, 9, 8, "dent"),)}, {"boxes": (Box(2, 2, 9, 9, "stain"),)},
        {"boxes": ()}, {"mask": None}, {"mask": MaskPolygons((RING,))},
        {"mask": MaskPolygons(((*RING, (3.0, 8.0)),))}, {"mask": MaskRuns(((0, 2),))},
        {"reference": None},
    ],
)  # fmt: skip
def test_label_digest_follows_boxes_masks_and_references(
    change: dict[str, Any], record: Record, tmp_path: Path
) -> None:
    other = replace(record, **change)
    assert label_digest([record], tmp_path) != label_digest([other], tmp_path)
    assert content_digest([record], tmp_path) == content_digest([other], tmp_path)


@pytest.mark.parametrize("rule", ["nonzero", "palette"])
def test_label_digest_follows_the_rule_of_a_mask(rule: Any, tmp_path: Path) -> None:
    path = archives.mask(tmp_path / "m.png")
    one, other = (Record(tmp_path / "a.png", "dent", mask=m) for m in
                  (MaskFile(path), MaskFile(path, rule)))  # fmt: skip
    assert label_digest([one], tmp_path) != label_digest([other], tmp_path)


def test_label_digest_follows_the_bytes_of_masks_and_references(
    record: Record, tmp_path: Path
) -> None:
    found = {label_digest([record], tmp_path)}
    archives.mask(tmp_path / "m.png", 5)
    found.add(label_digest([record], tmp_path))
    archives.picture(tmp_path / "r.png", 3)
    found.add(label_digest([record], tmp_path))
    (tmp_path / "m.png").unlink()  # the one who reads it refuses it by name
    found.add(label_digest([record], tmp_path))
    assert len(found) == 4


@pytest.mark.parametrize("name", ["magnetic-tile", "deep-pcb", "crack-forest", "coco"])
def test_label_digest_is_that_of_a_set_elsewhere(name: str, tmp_path: Path) -> None:
    root = getattr(archives, name.replace("-", "_"))(tmp_path / "a")
    first = load_dataset(name, root)
    shutil.copytree(root, tmp_path / "b")
    second = load_dataset(name, tmp_path / "b")
    assert label_digest(first.records, root) == label_digest(second.records, tmp_path / "b")
    assert len(label_digest(first.records, root)) == 64
