"""What masks, boxes and labels say of the places of a picture."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twonines.datasets.mask_sources import MaskFile
from twonines.datasets.record import Box, Record
from twonines.errors import MaskError
from twonines.training import marks
from twonines.training.marks import (
    BOX_SHARE,
    LABEL_SHARE,
    UNKNOWN,
    choose_pictures,
    cover_of,
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
