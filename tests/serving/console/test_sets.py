from pathlib import Path

import pytest

from tests.images import png
from twonines.datasets.registry import load_dataset
from twonines.errors import ConflictError, ImageError, SettingsError
from twonines.serving.console import sets
from twonines.types import PICTURE_SUFFIXES

LIMIT = 10_000


@pytest.fixture
def made(tmp_path: Path) -> sets.PictureSet:
    sets.make_set(tmp_path, "parts")
    return sets.open_set(tmp_path, "parts")


@pytest.mark.parametrize("name", ["", "  ", ".hidden", "a/b", "..", "a\\b", "x" * 81, "a\nb", "-a"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="set: must be 1 to 80"):
        sets.make_set(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_set_begins_with_good_and_is_not_made_twice(tmp_path: Path) -> None:
    assert sets.make_set(tmp_path, " 划痕 ") == "划痕"
    assert list(sets.open_set(tmp_path, "划痕").classes) == ["good"]
    with pytest.raises(ConflictError):
        sets.make_set(tmp_path, "划痕")
    with pytest.raises(SettingsError, match="must be one of"):
        sets.open_set(tmp_path, "../parts")


def test_pictures_are_kept_once_and_inside(made: sets.PictureSet, tmp_path: Path) -> None:
    for file in ("../../evil.png", "a.png", "a.png", "<b>.png"):
        path = sets.add_picture(made, "good", file, png(10), LIMIT)
        assert path.parent == made.folder / "good"
    other = sets.add_picture(made, "scratch", "a.png", png(20), LIMIT)
    again = sets.read_set(made.folder)
    assert list(again.classes) == ["good", "scratch"]
    assert again.classes["scratch"] == [other]
    assert len(again.classes["good"]) == 3  # the same name and bytes are one picture
    assert again.pictures == 4
    assert {p.name for p in tmp_path.iterdir()} == {"parts"}


def test_what_is_no_picture_is_not_kept(made: sets.PictureSet) -> None:
    with pytest.raises(ImageError):
        sets.add_picture(made, "good", "a.png", b"no picture", LIMIT)
    with pytest.raises(ImageError):
        sets.add_picture(made, "good", "a.png", png(1, (200, 200)), LIMIT)
    with pytest.raises(SettingsError, match="file: must end in"):
        sets.add_picture(made, "good", "a.html", png(1), LIMIT)
    assert sets.read_set(made.folder).pictures == 0


def test_only_pictures_of_the_set_are_moved_or_taken_out(
    made: sets.PictureSet, tmp_path: Path
) -> None:
    path = sets.add_picture(made, "good", "a.png", png(10), LIMIT)
    sets.add_class(made, "scratch")
    outside = tmp_path / "outside.png"
    outside.write_bytes(png(1))
    now = sets.read_set(made.folder)
    with pytest.raises(SettingsError):
        sets.remove_picture(now, outside)
    with pytest.raises(SettingsError):
        sets.move_picture(now, outside, "scratch")
    with pytest.raises(SettingsError):
        sets.move_picture(now, path, "none")
    sets.move_picture(now, path, "scratch")
    now = sets.read_set(made.folder)
    assert [p.name for p in now.classes["scratch"]] == [path.name] and not now.classes["good"]
    sets.remove_picture(now, now.classes["scratch"][0])
    assert sets.read_set(made.folder).pictures == 0 and outside.exists()


def test_whatever_a_set_keeps_is_taught(made: sets.PictureSet) -> None:
    kept = {
        sets.add_picture(made, kind, f"a{suffix}", png(value), LIMIT)
        for value, kind in enumerate(("good", "scratch"))
        for suffix in (*PICTURE_SUFFIXES, ".JFIF")
    }
    taught = load_dataset("folder", made.folder).records
    assert {one.path for one in taught} == kept and len(taught) == len(kept)
