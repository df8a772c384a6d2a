"""What masks, boxes and labels say of the places of a picture."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twonines.datasets.mask_sources import MaskFile
from twonines.datasets.record import Box, Record
from twonines.errors import DatasetError, MaskError
from twonines.training import marks
from twonines.training.marks import (
    BOX_SHARE,
    LABEL_SHARE,
    UNKNOWN,
    choose_pictures,
    cover_of,
    drop_empty_masks,
    is_located,
    read_marks,
)

KINDS = {"dent": 0, "stain": 1}
PATH = Path("part.png")


def write_mask(root: Path) -> MaskFile:
    pixels = np.zeros((8, 16), np.uint8)
    pixels[0:2, 0:3] = 255  # a whole place and half of the next, of 2 by 2 pixels
    Image.fromarray(pixels).save(root / "mask.png")
    return MaskFile(root / "mask.png")


def test_cover_is_the_share_of_a_place() -> None:
    mask = np.zeros((8, 8), bool)
    mask[0:4, 0:4] = True
    mask[4, 4:6] = True
    cover = cover_of(mask, (2, 2))
    assert cover.dtype == np.float32
    assert np.allclose(cover, np.array([[1, 0], [0, 2 / 16]]))
    assert cover_of(mask, (1, 1)) == pytest.approx(18 / 64)
    assert np.array_equal(cover_of(mask, (8, 8)), mask)


def test_a_mask_tells_every_place(tmp_path: Path) -> None:
    record = Record(PATH, "stain", mask=write_mask(tmp_path))
    found = read_marks(record, (8, 16), (4, 8), KINDS)
    expected = np.zeros((4, 8))
    expected[0, :2] = 1, 0.5
    assert np.allclose(found.cover, expected.ravel())
    assert (found.kind == 1).all()


def test_a_box_tells_where_not(tmp_path: Path) -> None:
    boxes = (Box(2.5, 0, 5, 2, "dent"), Box(14, 6, 16, 8, "other"))
    found = read_marks(Record(PATH, "stain", boxes=boxes), (8, 16), (4, 8), KINDS)
    unknown = np.isnan(found.cover).reshape(4, 8)
    assert np.argwhere(unknown).tolist() == [[0, 1], [0, 2], [3, 7]]
    assert (found.cover[~unknown.ravel()] == 0).all() and found.expected == BOX_SHARE
    kind = found.kind.reshape(4, 8)
    assert kind[0, 1] == 0 and kind[3, 7] == 1  # an unlisted name falls back to the picture's
    # With a mask too, the box only names the kind.
    both = Record(PATH, "stain", boxes=boxes, mask=write_mask(tmp_path))
    found = read_marks(both, (8, 16), (4, 8), KINDS)
    assert not np.isnan(found.cover).any() and found.kind[1] == 0 and found.kind[0] == 1


def test_a_thin_box_still_has_a_place() -> None:
    box = Box(7.9, 3.9, 8.0, 4.0, "dent")
    found = read_marks(Record(PATH, "dent", boxes=(box,)), (8, 16), (4, 8), KINDS)
    assert np.flatnonzero(np.isnan(found.cover)).tolist() == [1 * 8 + 3]


def test_a_label_tells_no_place() -> None:
    found = read_marks(Record(PATH, "dent"), (8, 16), (4, 8), KINDS)
    assert np.isnan(found.cover).all() and found.expected == LABEL_SHARE
    assert read_marks(Record(PATH, "dent"), (8, 16), (4, 8), KINDS, 0.2).expected == 0.2


def test_a_good_picture_is_good_everywhere() -> None:
    found = read_marks(Record(PATH, "good"), (8, 16), (4, 8), KINDS)
    assert (found.cover == 0).all() and (found.kind == UNKNOWN).all()


def test_a_kind_without_a_name_is_unknown() -> None:
    assert (read_marks(Record(PATH, "several"), (8, 16), (4, 8), KINDS).kind == UNKNOWN).all()


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MaskError, match="mask"):
        read_marks(Record(PATH, "dent", mask=write_mask(tmp_path)), (9, 16), (4, 8), KINDS)


def part(root: Path, name: str, defect_class: str, marked: int) -> Record:
    """A picture of 16 by 8 pixels with a mask of ``marked`` rows."""
    Image.new("RGB", (16, 8)).save(root / f"{name}.png")
    pixels = np.zeros((8, 16), np.uint8)
    pixels[:marked] = 255
    Image.fromarray(pixels).save(root / f"{name}_mask.png")
    return Record(root / f"{name}.png", defect_class, mask=MaskFile(root / f"{name}_mask.png"))


def test_an_empty_mask_tells_no_place(tmp_path: Path) -> None:
    marked, empty = part(tmp_path, "a", "dent", 2), part(tmp_path, "b", "dent", 0)
    boxed = replace(part(tmp_path, "c", "dent", 0), boxes=(Box(0, 0, 4, 4, "dent"),))
    good, bare = part(tmp_path, "d", "good", 0), Record(PATH, "dent")
    records, count = drop_empty_masks([empty, marked, good, boxed, bare])
    assert (count.read, count.empty) == (3, 2)
    assert records[0] == replace(empty, mask=None) and records[3] == replace(boxed, mask=None)
    assert (records[1], records[2], records[4]) == (marked, good, bare)
    assert np.isnan(read_marks(records[0], (8, 16), (4, 8), KINDS).cover).all()
    assert np.isnan(read_marks(records[3], (8, 16), (4, 8), KINDS).cover).sum() == 4
    assert drop_empty_masks([good, bare])[1].read == 0


def test_masks_that_all_are_empty_are_refused(tmp_path: Path) -> None:
    records = [part(tmp_path, f"{i}", "dent", 0) for i in range(3)]
    with pytest.raises(DatasetError, match="all 3 of the defective pictures are empty, as .*0.png"):
        drop_empty_masks(records)


def test_a_picture_that_cannot_be_read_keeps_its_mask(tmp_path: Path) -> None:
    broken = part(tmp_path, "a", "dent", 0)
    broken.path.write_bytes(b"x")  # teaching names it, with all others that are broken
    records, count = drop_empty_masks([broken])
    assert records == (broken,) and count.read == 0


def test_a_mask_of_another_size_is_named_before_anything_is_taught(tmp_path: Path) -> None:
    record = part(tmp_path, "a", "dent", 2)
    Image.new("RGB", (17, 8)).save(record.path)
    with pytest.raises(MaskError, match="a_mask.png"):
        drop_empty_masks([record])


def test_located_is_a_defect_with_a_mark(tmp_path: Path) -> None:
    mask, box = write_mask(tmp_path), Box(0, 0, 1, 1, "dent")
    assert is_located(Record(PATH, "dent", mask=mask))
    assert is_located(Record(PATH, "dent", boxes=(box,)))
    assert not is_located(Record(PATH, "dent"))
    assert not is_located(Record(PATH, "good", mask=mask))


def test_the_choice_leaves_no_class_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "MOST_PICTURES", 20)
    mask = write_mask(tmp_path)
    counts = {"good": 60, "dent": 30, "stain": 3}
    records = [Record(Path(f"{n}{i}.png"), n, mask=mask if n == "dent" and i >= 25 else None)
               for n, count in counts.items() for i in range(count)]  # fmt: skip
    chosen = choose_pictures(records, 0)
    assert chosen == choose_pictures(records, 0) != choose_pictures(records, 1)
    names = [r.defect_class for r in chosen]
    assert [names.count(n) for n in counts] == [9, 8, 3]
    assert sum(is_located(r) for r in chosen) == 5  # all of the five with a mask
    assert choose_pictures(records[:5], 0) == records[:5]
