"""Tables, COCO sets, backups, and the commands."""

import csv
import io
import json
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.images import png
from tests.serving.store.conftest import make_entry, put
from twonines.benchmarks.postgres import Postgres
from twonines.cli.app import app as command
from twonines.datasets.registry import load_dataset
from twonines.errors import InputError, SettingsError, StoreError
from twonines.serving.store.backup import backup, restore
from twonines.serving.store.coco import export_coco
from twonines.serving.store.database import Database
from twonines.serving.store.export import export_table
from twonines.serving.store.findings import Report
from twonines.serving.store.opening import open_records
from twonines.serving.store.pictures import digest_of
from twonines.serving.store.query import Filters
from twonines.serving.store.records import Records
from twonines.types import GOOD


def fill(records: Records) -> list[str]:
    return list(put(
        records,
        make_entry("NG", png(250), part_id="=1+1", lot="A"),
        make_entry("OK", png(0), keeps=True, part_id="P2", lot="A"),
        make_entry("REVIEW", png(128), due=1, lot="B"),
        make_entry("OK", png(7), lot="B"),
    ))  # fmt: skip


def test_tables(records: Records, tmp_path: Path) -> None:
    ids = fill(records)
    assert export_table(records, Filters(), tmp_path / "all.csv") == 4
    with (tmp_path / "all.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ids
    assert rows[0]["part_id"] == "'=1+1" and float(rows[0]["score"]) == 0.5
    assert json.loads(rows[0]["regions"])[0]["box"] == [0, 0, 4, 4]
    import pyarrow.parquet

    assert export_table(records, Filters(lot="A"), tmp_path / "a.parquet") == 2
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pylist()
    assert [row["id"] for row in table] == ids[:2] and table[0]["part_id"] == "=1+1"
    assert table[0]["time"] == rows[0]["time"]
    assert export_table(records, Filters(lot="none"), tmp_path / "none.parquet") == 0
    with pytest.raises(SettingsError, match="out"):
        export_table(records, Filters(), tmp_path / "a.xlsx")


def test_coco_is_read_as_a_data_set(records: Records, tmp_path: Path) -> None:
    ng, ok, review, _ = fill(records)
    records.add_review(ng, reviewer="ann", verdict="NG", defect_class="scratch")
    records.add_review(ng, reviewer="bob", verdict="NG", defect_class="scratch")
    records.add_finding(Report("escape", inspection_id=ok, defect_class="hole"), reporter="qa")
    records.add_review(review, reviewer="ann", verdict="OK")  # one of two: nothing is decided
    assert export_coco(records, Filters(), tmp_path / "set") == (2, 0)
    found = {r.path.stem: r for r in load_dataset("coco", tmp_path / "set").records}
    first, second = found[digest_of(png(250))], found[digest_of(png(0))]
    assert first.defect_class == "scratch" and second.defect_class == "hole"
    assert (first.boxes[0].x_min, first.boxes[0].x_max, first.boxes[0].y_max) == (0, 4, 4)
    assert (second.boxes[0].x_max, second.boxes[0].y_max) == (60, 40)  # all of it
    records.add_review(review, reviewer="bob", verdict="OK")
    # The last one is OK to the model only, and its picture is not kept.
    assert export_coco(records, Filters(), tmp_path / "all", all_labels=True) == (3, 1)
    found = {r.path.stem: r for r in load_dataset("coco", tmp_path / "all").records}
    assert found[digest_of(png(128))].defect_class == GOOD
    with pytest.raises(SettingsError, match="out"):
        export_coco(records, Filters(), tmp_path / "all")


@pytest.fixture
def full(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    records = open_records(Database.in_folder(folder), folder)
    fill(records)
    records.close()
    (folder / "reports").mkdir()
    (folder / "reports" / "r.html").write_text("report")
    return folder


def test_backup_while_it_is_written_to(full: Path, tmp_path: Path) -> None:
    records = open_records(Database.in_folder(full), full)
    end = threading.Event()
    acknowledged: list[str] = []

    def write() -> None:
        while not end.is_set():
            acknowledged.extend(put(records, make_entry("NG", png(len(acknowledged) % 200))))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        while len(acknowledged) < 3:
            end.wait(0.01)
        before = list(acknowledged)
        backup(full, tmp_path / "b.tar")
    finally:
        end.set()
        thread.join()
    records.close()
    restore(tmp_path / "b.tar", tmp_path / "again")
    again = open_records(Database.in_folder(tmp_path / "again"), tmp_path / "again")
    found = list(again.iterate())
    assert {one.id for one in found} >= set(before)
    for one in found:
        if one.verdict == "NG":
            assert digest_of(again.picture(one.id)[0]) == one.picture_digest
    assert (tmp_path / "again" / "reports" / "r.html").read_text() == "report"
    put(again, make_entry("OK"))
    again.close()


def test_backup_and_restore_refuse_to_overwrite(full: Path, tmp_path: Path) -> None:
    backup(full, tmp_path / "b.tar")
    with pytest.raises(SettingsError, match="out"):
        backup(full, tmp_path / "b.tar")
    with pytest.raises(SettingsError, match="data_dir"):
        restore(tmp_path / "b.tar", full)
    with pytest.raises(SettingsError, match="data_dir"):
        backup(tmp_path / "nothing", tmp_path / "c.tar")
    with pytest.raises(SettingsError, match="database_url"):
        restore(tmp_path / "b.tar", tmp_path / "x", database_url="postgresql://h/x")
    assert not (tmp_path / "x").exists()


def test_a_backup_into_no_folder_names_it(full: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"{tmp_path}/no/b.tar must be writable"):
        backup(full, tmp_path / "no" / "b.tar")


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_a_damaged_backup_is_refused(full: Path, tmp_path: Path, place: float) -> None:
    backup(full, tmp_path / "b.tar")
    data = bytearray((tmp_path / "b.tar").read_bytes())
    (tmp_path / "short.tar").write_bytes(data[: int(len(data) * place)])
    with pytest.raises(InputError, match="backup"):
        restore(tmp_path / "short.tar", tmp_path / "x")
    with tarfile.open(tmp_path / "b.tar") as tar:
        member = tar.getmembers()[int(place * 4)]
    data[member.offset_data + member.size // 2] ^= 1
    (tmp_path / "changed.tar").write_bytes(data)
    with pytest.raises(InputError, match="backup"):
        restore(tmp_path / "changed.tar", tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "pictures/../../evil", "other"])
def test_a_backup_writes_nowhere_else(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        member = tarfile.TarInfo(name)
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(InputError, match="data directory"):
        restore(tmp_path / "b.tar", tmp_path / "x" / "y")
    assert not list(tmp_path.rglob("evil"))


def test_a_backup_that_lacks_a_picture_fails(full: Path, tmp_path: Path) -> None:
    digest = digest_of(png(250))
    (full / "pictures" / digest[:2] / digest).unlink()
    with pytest.raises(StoreError, match="missing"):
        backup(full, tmp_path / "b.tar")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data"]


def test_backup_of_postgres(server: Postgres, tmp_path: Path) -> None:
    url, data = server.create("live"), tmp_path / "data"
    data.mkdir()
    records = open_records(Database(url), data)
    ids = fill(records)
    backup(data, tmp_path / "b.tar", database_url=url)
    fresh = server.create("fresh")
    with pytest.raises(SettingsError, match="database_url"):
        restore(tmp_path / "b.tar", tmp_path / "x")
    restore(tmp_path / "b.tar", tmp_path / "again", database_url=fresh)
    again = open_records(Database(fresh), tmp_path / "again")
    assert [one.id for one in again.iterate()] == ids
    assert again.picture(ids[0])[0] == png(250)
    with pytest.raises(SettingsError, match="empty database"):
        restore(tmp_path / "b.tar", tmp_path / "third", database_url=fresh)
    for one in (records, again):
        one.close()
        one.database.close()


def run(*words: str) -> Any:
    return CliRunner().invoke(command, list(words))


def test_commands(full: Path, tmp_path: Path) -> None:
    data = ("--data-dir", str(full))
    done = run("records", "list", *data, "--json", "--lot", "A")
    rows = [json.loads(line) for line in done.output.splitlines()]
    assert [row["verdict"] for row in rows] == ["OK", "NG"]
    shown = run("records", "show", *data, rows[1]["id"], "--picture", str(tmp_path / "p.png"))
    assert json.loads(shown.output)["part_id"] == "=1+1"
    assert (tmp_path / "p.png").read_bytes() == png(250)
    assert (
        "4 inspections" in run("records", "export", *data, "--out", str(tmp_path / "t.csv")).output
    )
    out = run("records", "export", *data, "--out", str(tmp_path / "coco"), "--all-labels").output
    assert out.startswith("2 pictures; 1 left out")
    assert "purged 0 records, 1 pictures" in run(
        "records", "purge", *data, "--ok-picture-days", "0").output  # fmt: skip
    assert "purged 3 records" in run("records", "purge", *data, "--days", "0").output
    assert run("backup", *data, "--out", str(tmp_path / "b.tar")).exit_code == 0
    assert run("restore", str(tmp_path / "b.tar"), "--data-dir", str(tmp_path / "r")).exit_code == 0
    missing = run("records", "list", "--data-dir", str(tmp_path / "nothing"))
    assert isinstance(missing.exception, SettingsError)
    assert not (tmp_path / "nothing").exists()
