import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from tests.datasets import archives
from twonines.datasets.checks import CheckReport, check_dataset, content_digest
from twonines.datasets.duplicates import near_pairs
from twonines.datasets.pictures import Decoder
from twonines.datasets.record import Dataset
from twonines.datasets.registry import load_dataset
from twonines.datasets.splits import Split, make_split
from twonines.datasets.summary import print_report, write_json
from twonines.errors import DatasetError, SettingsError
from twonines.models.image import decode


def kinds(dataset: Dataset) -> dict[str, str]:
    return {path: kind for path, kind, _ in check_dataset(dataset).faults}


@pytest.mark.parametrize("name", ["neu-det", "magnetic-tile", "mvtec", "table", "elpv"])
def test_a_sound_set_has_no_faults(name: str, tmp_path: Path) -> None:
    layout = getattr(archives, name.replace("-", "_"))
    dataset = load_dataset(name, layout(tmp_path))
    report = check_dataset(dataset)
    assert report.faults == () and report.unreadable == ()
    assert report.exact_duplicates == () and report.near_duplicates == ()
    assert report.sizes == {"24x32": len(dataset.records)}
    assert report.pictures == sum(report.counts.values())


def test_counts_and_balance(tmp_path: Path) -> None:
    report = check_dataset(load_dataset("magnetic-tile", archives.magnetic_tile(tmp_path)))
    assert report.counts == {"Blowhole": 2, "Crack": 2, "good": 2}
    assert report.defective_share == pytest.approx(4 / 6)
    assert (report.imbalance, report.grouped, report.groups) == (1.0, 6, 2)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_truncated_and_missing_files_are_found(name: str, tmp_path: Path) -> None:
    archives.folder(tmp_path)
    cut = archives.picture(tmp_path / "dent" / name, 77, (200, 200))
    cut.write_bytes(cut.read_bytes()[:-800])
    dataset = load_dataset("folder", tmp_path)
    (tmp_path / "OK/a0.png").unlink()
    (tmp_path / "OK/a1.png").write_bytes(b"no picture")
    unreadable = dict(check_dataset(dataset).unreadable)
    assert set(unreadable) == {f"dent/{name}", "OK/a0.png", "OK/a1.png"}
    assert unreadable["OK/a0.png"] == "no such file"


def test_mask_faults(tmp_path: Path) -> None:
    root = archives.magnetic_tile(tmp_path)
    archives.mask(root / "MT_Blowhole/Imgs/exp1_num_1.png", 0)
    archives.mask(root / "MT_Blowhole/Imgs/exp4_num_4.png", 4, value=127)
    archives.mask(root / "MT_Free/Imgs/exp0_num_0.png", 2)
    archives.mask(root / "MT_Crack/Imgs/exp2_num_2.png", 4, size=(10, 10))
    (root / "MT_Crack/Imgs/exp5_num_5.png").write_bytes(b"x")
    assert kinds(load_dataset("magnetic-tile", root)) == {
        "MT_Blowhole/Imgs/exp1_num_1.jpg": "mask_empty",
        "MT_Blowhole/Imgs/exp4_num_4.jpg": "mask_empty",
        "MT_Free/Imgs/exp0_num_0.jpg": "mask_on_good",
        "MT_Crack/Imgs/exp2_num_2.jpg": "mask_size",
        "MT_Crack/Imgs/exp5_num_5.jpg": "mask_unreadable",
    }


def test_a_mask_that_a_table_names_but_is_not_there(tmp_path: Path) -> None:
    root = archives.table(tmp_path)
    (root / "m/1.png").unlink()
    assert kinds(load_dataset("table", root)) == {"p/1.png": "mask_missing"}


def test_box_faults(tmp_path: Path) -> None:
    root = archives.neu_det(tmp_path)
    archives.voc_xml(root / "ANNOTATIONS/crazing_1.xml", "crazing", (1, 1, 33, 24))
    archives.voc_xml(root / "ANNOTATIONS/scratches_1.xml", "inclusion", (1, 1, 32, 24))
    assert kinds(load_dataset("neu-det", root)) == {
        "IMAGES/crazing_1.jpg": "box_outside",
        "IMAGES/scratches_1.jpg": "box_class",
    }


def test_exif_rotation_counts_in_sizes(tmp_path: Path) -> None:
    path = archives.picture(tmp_path / "good/a.jpg", 1)
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as image:
        image.save(path, exif=exif)
    assert check_dataset(load_dataset("folder", tmp_path)).sizes == {"32x24": 1}


def test_duplicates_and_conflicts(tmp_path: Path) -> None:
    archives.folder(tmp_path)
    shutil.copy(tmp_path / "OK/a0.png", tmp_path / "OK/b.png")
    shutil.copy(tmp_path / "OK/a1.png", tmp_path / "dent/c.png")
    with Image.open(tmp_path / "OK/a2.png") as image:
        image.save(tmp_path / "OK/a2.jpg", quality=90)
    report = check_dataset(load_dataset("folder", tmp_path))
    assert report.exact_duplicates == (("OK/a0.png", "OK/b.png"), ("OK/a1.png", "dent/c.png"))
    assert report.conflicts == (("OK/a1.png", "dent/c.png"),)
    assert report.near_duplicates == (("OK/a2.jpg", "OK/a2.png"),)


def test_flat_pictures_of_different_grey_are_no_duplicates(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    for value in (40, 60, 215):
        Image.new("L", (32, 24), value).save(tmp_path / f"good/{value}.png")
    assert check_dataset(load_dataset("folder", tmp_path)).near_duplicates == ()


def test_near_pairs_against_a_slow_loop() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2, (10, 256)).astype(bool)
    bits = [base[k % 10] ^ (rng.random(256) < 0.04 * (k % 3)) for k in range(60)]
    thumbs = [np.full(256, 100 + k % 5, np.float32) for k in range(60)]
    slow = {
        (i, j)
        for i in range(60)
        for j in range(i + 1, 60)
        if (bits[i] != bits[j]).sum() <= 20 and np.abs(thumbs[i] - thumbs[j]).mean() <= 4
    }
    assert slow
    assert set(near_pairs(bits, thumbs)) == slow


def test_a_leak_across_the_split_is_found(tmp_path: Path) -> None:
    archives.folder(tmp_path)
    shutil.copy(tmp_path / "OK/a0.png", tmp_path / "OK/b.png")
    with Image.open(tmp_path / "OK/a2.png") as image:
        image.save(tmp_path / "dent/a2.jpg", quality=90)
    dataset = load_dataset("folder", tmp_path)
    by_name = {r.path.name: r for r in dataset.records}
    train = (by_name["a0.png"], by_name["a2.png"])
    bad = Split(train, (), (by_name["b.png"], by_name["a2.jpg"]), "random", 0)
    report = check_dataset(dataset, bad)
    assert report.leaks and report.split is not None
    assert report.split.exact == (("OK/a0.png", "OK/b.png"),)
    assert report.split.near == (("OK/a2.png", "dent/a2.jpg"),)
    assert not check_dataset(dataset, make_split(dataset)).leaks


def test_groups_across_a_random_split_are_a_leak(tmp_path: Path) -> None:
    dataset = load_dataset("magnetic-tile", archives.magnetic_tile(tmp_path))
    bad = Split(dataset.records[:3], (), dataset.records[3:], "random", 0)
    report = check_dataset(dataset, bad)
    assert report.split is not None and report.split.groups == ("0", "1")
    assert report.leaks


def test_report_is_json_and_progress_is_told(tmp_path: Path) -> None:
    dataset = load_dataset("table", archives.table(tmp_path))
    told: list[tuple[int, int]] = []
    split = make_split(dataset, calibration_fraction=0.0)
    report = check_dataset(dataset, split, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    data = report.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert data["split"]["counts"] == {"train": 2, "calibration": 0, "test": 2, "dropped": 0}


def test_the_models_decoder_decides_what_is_unreadable(tmp_path: Path) -> None:
    archives.folder(tmp_path)
    path = archives.picture(tmp_path / "dent/a.png", 77, (64, 64))
    data = bytearray(path.read_bytes())
    data[-13] ^= 1  # the checksum of the pixels, which Pillow does not look at
    path.write_bytes(data)
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "dent/float.tiff")
    dataset = load_dataset("folder", tmp_path)
    assert check_dataset(dataset).unreadable == ()
    report = check_dataset(dataset, decode=decode)
    unreadable = dict(report.unreadable)
    assert set(unreadable) == {"dent/a.png", "dent/float.tiff"}
    assert "damaged" in unreadable["dent/a.png"]
    assert unreadable["dent/float.tiff"].startswith("image: must have 8 or 16 bits a channel")
    assert not report.sound


def test_the_models_decoder_gives_the_same_sizes_and_copies(tmp_path: Path) -> None:
    archives.folder(tmp_path)
    with Image.open(tmp_path / "OK/a2.png") as image:
        image.save(tmp_path / "OK/a2.jpg", quality=90)
    path = archives.picture(tmp_path / "OK/turned.jpg", 1)
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as image:
        image.save(path, exif=exif)
    dataset = load_dataset("folder", tmp_path)
    own, given = check_dataset(dataset), check_dataset(dataset, decode=decode)
    assert own.sizes == given.sizes and own.sizes["32x24"] == 1 and own.modes == given.modes
    assert given.near_duplicates == (("OK/a2.jpg", "OK/a2.png"),)


@pytest.mark.parametrize("decoder", [None, decode])
def test_sixteen_bits_are_scaled_before_they_are_compared(
    tmp_path: Path, decoder: Decoder | None
) -> None:
    (tmp_path / "good").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):  # all values are above 255: cut to 8 bits, both would be white
        wide = rng.integers(2000, 65535, (24, 32)).astype(np.uint16)
        Image.fromarray(wide).save(tmp_path / f"good/{name}.png")
    narrow = ((wide.astype(np.int64) + 128) // 257).astype(np.uint8)
    Image.fromarray(narrow).save(tmp_path / "good/b8.png")
    report = check_dataset(load_dataset("folder", tmp_path), decode=decoder)
    assert report.near_duplicates == (("good/b.png", "good/b8.png"),)


def printed(report: CheckReport, width: int = 40) -> str:
    stream = io.StringIO()
    print_report(report, Console(file=stream, width=width))
    return stream.getvalue()


def test_the_summary_names_every_finding(tmp_path: Path) -> None:
    archives.folder(tmp_path)
    long = tmp_path / "OK" / ("a-long-name-" * 8 + "[red].png")
    for k in range(13):
        path = tmp_path / "OK" / f"broken{k:02}.png"
        path.write_bytes(b"no picture %d" % k)
    long.write_bytes(b"no picture")
    shutil.copy(tmp_path / "OK/a1.png", tmp_path / "dent/c.png")
    dataset = load_dataset("folder", tmp_path)
    by_name = {r.path.name: r for r in dataset.records}
    bad = Split((by_name["a1.png"],), (), (by_name["c.png"],), "random", 0)
    text = printed(check_dataset(dataset, bad))
    assert f"  OK/{long.name}: " in text  # whole, in spite of its brackets and a narrow console
    assert "unreadable: 14" in text and "  and 4 more" in text
    assert text.count("  OK/broken") == 9
    assert "exact duplicates: 1\n  OK/a1.png = dent/c.png" in text
    assert "exact duplicates with different labels: 1" in text
    assert "copies in training and test: 1" in text
    assert "\u2588" in text and "unsound" in text


def test_the_summary_of_a_sound_set_says_so(tmp_path: Path) -> None:
    dataset = load_dataset("magnetic-tile", archives.magnetic_tile(tmp_path))
    text = printed(check_dataset(dataset))
    assert "every picture can be read" in text and "unreadable" not in text
    bad = Split(dataset.records[:3], (), dataset.records[3:], "random", 0)
    report = check_dataset(dataset, bad)
    assert "groups in training and test: 2\n  0\n  1" in printed(report) and not report.sound
    with pytest.raises(SettingsError, match="json: .* must be writable"):
        write_json(report, tmp_path / "no" / "folder.json")


@pytest.mark.parametrize(
    "change",
    [
        {"group": "other"}, {"group": None}, {"official_split": "test"}, {"certainty": 0.5},
        {"attributes": {"type": "mono"}},
    ],
)  # fmt: skip
def test_content_digest_follows_all_that_decides_a_split(
    change: dict[str, Any], tmp_path: Path
) -> None:
    made = load_dataset("folder", archives.folder(tmp_path))
    records = [replace(record, group="part") for record in made.records]
    digest = content_digest(records, made.root)
    assert digest != content_digest([replace(records[0], **change), *records[1:]], made.root)


def test_content_digest_follows_bytes_labels_and_order(tmp_path: Path) -> None:
    first = load_dataset("folder", archives.folder(tmp_path / "a"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    second = load_dataset("folder", tmp_path / "b")
    digest = content_digest(first.records, first.root)
    assert digest == content_digest(second.records, second.root)
    assert len(digest) == 64
    assert digest != content_digest(first.records[::-1], first.root)
    (tmp_path / "b/OK").rename(tmp_path / "b/stain")
    third = load_dataset("folder", tmp_path / "b")
    assert digest != content_digest(third.records, third.root)
    archives.picture(tmp_path / "a/OK/a0.png", 99)
    assert digest != content_digest(first.records, first.root)
    first.records[0].path.unlink()
    with pytest.raises(DatasetError, match="readable file"):
        content_digest(first.records, first.root)
