"""Models that compare a picture with a reference, over HTTP and in batch scoring."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.conftest import tiny_card
from tests.images import png
from tests.made_models import write_comparing_model
from twonines.errors import ImageError, InputError, SettingsError
from twonines.models.image import decode
from twonines.serving.app import create_app
from twonines.serving.references import ReferenceImages, StoredReferences, Template
from twonines.serving.score import score_paths
from twonines.settings import ServeSettings

BRIGHT, DARK = png(250), png(20)


@pytest.fixture(scope="module")
def compares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("m") / "compares.onnx"
    return write_comparing_model(path, tiny_card(reference=True))


@pytest.fixture(scope="module")
def client(compares: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("references")
    for name, data in (
        ("A12.png", BRIGHT), ("A12.1.png", DARK), ("b.PNG", DARK), ("b.jpg", DARK),
        ("broken.png", DARK[:50]), ("empty.png", b""), ("text.png", b"text"), ("notes.txt", b"x"),
        ("large.png", bytes(300_000)),
    ):  # fmt: skip
        (folder / name).write_bytes(data)
    (folder / "folder.png").mkdir()
    settings = ServeSettings(
        model=compares, references=folder, max_files=3, max_bytes=200_000, max_pixels=10_000
    )
    with TestClient(create_app(settings)) as opened:
        yield opened


def verdicts(answer: object) -> list[str]:
    return [result["verdict"] for result in answer.json()["results"]]  # type: ignore[attr-defined]


def test_one_reference_serves_all_pictures_of_the_request(client: TestClient) -> None:
    files = [("files", ("a.png", BRIGHT)), ("files", ("b.png", DARK)), ("files", ("c.png", BRIGHT))]
    bright = client.post("/v1/inspect", files=[*files, ("reference", ("r.png", BRIGHT))])
    assert verdicts(bright) == ["OK", "OK", "OK"]
    dark = client.post("/v1/inspect", files=[("reference", ("r.png", DARK)), *files])
    assert verdicts(dark) == ["NG", "OK", "NG"]
    for result in dark.json()["results"]:
        overlay = client.get(f"/v1/inspections/{result['id']}/overlay")
        assert overlay.status_code == 200 and overlay.content.startswith(b"\x89PNG")


def test_stored_references_are_found_by_their_id(client: TestClient) -> None:
    files = {"file": ("a.png", BRIGHT)}
    for key, verdict in (("A12", "OK"), ("A12.1", "NG")):
        answer = client.post("/v1/inspect", files=files, data={"reference_id": key})
        assert verdicts(answer) == [verdict]
        assert answer.json()["reference_id"] == key
        headers = {"content-type": "image/png"}
        raw = client.post(f"/v1/inspect?reference_id={key}", content=BRIGHT, headers=headers)
        assert verdicts(raw) == [verdict]
    model = client.get("/v1/models").json()["models"][0]
    assert model["card"]["reference"] is True
    assert {"A12", "A12.1", "b", "broken"} <= set(model["references"])
    assert "notes" not in model["references"]
    assert "reference_id" in client.get("/openapi.json").text
    assert 'id="golden"' in client.get("/").text


@pytest.mark.parametrize(
    ("key", "status", "message"),
    [
        ("unknown", 422, "'unknown' names 0"),
        ("b", 422, "'b' names 2"),
        ("../A12", 422, "letters, digits"),
        ("", 422, "letters, digits"),
        ("*", 422, "letters, digits"),
        ("x" * 201, 400, "at most 200"),
        ("notes", 422, "names 0"),
        ("broken", 422, "reference: image: the PNG must have"),
        ("empty", 422, "reference: image: must not be empty"),
        ("text", 415, "reference: image: must be one of"),
        ("large", 413, "reference: file: must have at most"),
        ("folder", 422, "reference: file: must be a regular file"),
    ],
)
def test_a_stored_reference_that_cannot_be_had(
    client: TestClient, key: str, status: int, message: str
) -> None:
    files = {"file": ("a.png", DARK)}
    answer = client.post("/v1/inspect", files=files, data={"reference_id": key})
    assert answer.status_code == status, answer.text
    assert message in answer.json()["error"]
    assert "OK" not in [r["verdict"] for r in answer.json().get("results", [])]


@pytest.mark.parametrize(
    ("data", "status", "message"),
    [
        (b"", 422, "reference: image: must not be empty"),
        (b"text", 415, "reference: image: must be one of"),
        (DARK[:50], 422, "reference: image: the PNG must have"),
        (bytes(200_001), 413, "reference: file: at most 200000 bytes"),
        (png(20, (101, 100)), 413, "reference: image: at most 10000 pixels"),
        (png(20, (60, 40)), 422, "reference: must show the view"),
    ],
)
def test_a_bad_reference_is_named_and_never_ok(
    client: TestClient, data: bytes, status: int, message: str
) -> None:
    files = {"file": ("a.png", DARK), "reference": ("r.png", data)}
    answer = client.post("/v1/inspect", files=files)
    assert answer.status_code == status, answer.text
    assert message in answer.json()["error"]
    assert "OK" not in [r["verdict"] for r in answer.json().get("results", [])]


def test_missing_twice_and_not_wanted(client: TestClient, tiny_model: Path, compares: Path) -> None:
    files = [("file", ("a.png", DARK))]
    golden = ("reference", ("r.png", DARK))
    headers = {"content-type": "image/png"}
    for answer in (
        client.post("/v1/inspect", files=files),
        client.post("/v1/inspect", content=DARK, headers=headers),
    ):
        assert answer.status_code == 422 and "reference: must be given" in answer.json()["error"]
    both = client.post("/v1/inspect", files=[*files, golden], data={"reference_id": "A12"})
    assert both.status_code == 400 and "got both" in both.json()["error"]
    twice = client.post("/v1/inspect", files=[*files, golden, golden])
    assert twice.status_code == 400 and "at most one" in twice.json()["error"]
    assert client.post("/v1/inspect", files=[*files * 3, golden]).status_code == 200
    assert client.post("/v1/inspect", files=files * 4).status_code == 413
    with TestClient(create_app(ServeSettings(model=tiny_model))) as plain:
        for answer in (
            plain.post("/v1/inspect", files=[*files, golden]),
            plain.post("/v1/inspect", files=files, data={"reference_id": "A12"}),
            plain.post("/v1/inspect?reference_id=A12", content=DARK, headers=headers),
        ):
            assert answer.status_code == 422 and "must not be given" in answer.json()["error"]
        assert plain.get("/v1/models").json()["models"][0]["references"] == []
    with TestClient(create_app(ServeSettings(model=compares))) as bare:
        answer = bare.post("/v1/inspect", files=files, data={"reference_id": "A12"})
        assert answer.status_code == 422 and "--references" in answer.json()["error"]


def test_a_folder_that_is_missing_or_not_wanted_stops_the_start(
    tiny_model: Path, compares: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="references: must be a folder"):
        StoredReferences(tmp_path / "missing", 1)
    for model, message in ((tiny_model, "must not be given"), (compares, "must be a folder")):
        settings = ServeSettings(model=model, references=tmp_path / "missing")
        with pytest.raises(SettingsError, match=message), TestClient(create_app(settings)):
            pass


def test_decoded_references_are_kept_within_bounds() -> None:
    images = ReferenceImages(max_bytes=40 * 60 * 3)
    first = images.get(BRIGHT)
    assert images.get(BRIGHT) is first
    assert (first == decode(BRIGHT)).all()
    images.get(DARK)  # makes the first leave
    assert images.get(BRIGHT) is not first
    assert images._bytes == 40 * 60 * 3
    with pytest.raises(ImageError, match="^reference: "):
        images.get(b"")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("golden.png", "golden.png"),
        ("{folder}/{head}_temp.jpg", "a/B7/0004_temp.jpg"),
        ("g/{folder_name}{suffix}", "g/B7.png"),
        ("g/{stem}.png", "g/0004_test.png"),
    ],
)
def test_template(text: str, found: str) -> None:
    assert Template(text).path(Path("a/B7/0004_test.png")) == Path(found)


@pytest.mark.parametrize(
    "text", ["", "{nope}", "{folder.name}", "{0}", "{", "{stem:>9}", "{stem!r}"]
)
def test_bad_template(text: str) -> None:
    with pytest.raises(SettingsError, match="reference: "):
        Template(text)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Pairs as DeepPCB names them; every third picture is unlike its reference."""
    place = tmp_path / "group1"
    place.mkdir()
    for index in range(12):
        (place / f"{index:02d}_test.png").write_bytes(DARK if index % 3 else BRIGHT)
        (place / f"{index:02d}_temp.png").write_bytes(DARK)
    (place / "10_temp.png").unlink()
    (place / "11_temp.png").write_bytes(b"")
    return place


def rows(out: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in out.read_text().splitlines()]


RULE = "{folder}/{head}_temp.png"


def test_scoring_with_a_reference_for_each_picture(
    compares: Path, pairs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "t.jsonl"
    summary = score_paths(compares, [str(pairs)], out, reference=RULE)
    assert summary.counts == {"ERROR": 2, "NG": 4, "OK": 6}
    assert (summary.total, summary.golden) == (12, 11)
    assert "11 pictures that are references" in " ".join(summary.remarks)
    found = rows(out)
    assert [row["verdict"] for row in found[:4]] == ["NG", "OK", "OK", "NG"]
    assert "10_temp.png" in found[10]["error"] and "cannot be read" in found[10]["error"]
    assert "reference: image: must not be empty" in found[11]["error"]


def test_scoring_with_one_reference_for_all(compares: Path, pairs: Path, tmp_path: Path) -> None:
    golden = str(pairs / "00_test.png")
    summary = score_paths(
        compares, [str(pairs / "*_test.png")], tmp_path / "t.csv", reference=golden
    )
    assert (summary.counts, summary.golden) == ({"OK": 11}, 1)  # less bright than it is no defect
    with pytest.raises(InputError, match="besides the references"):
        score_paths(compares, [golden], tmp_path / "t.csv", reference=golden)


def test_scoring_refuses_a_reference_that_is_missing_or_not_wanted(
    compares: Path, tiny_model: Path, pairs: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="reference: must be given"):
        score_paths(compares, [str(pairs)], tmp_path / "t.csv")
    with pytest.raises(InputError, match="reference: must not be given"):
        score_paths(tiny_model, [str(pairs)], tmp_path / "t.csv", reference=RULE)


@pytest.mark.parametrize("change", ["none", "rule", "file"])
def test_resumed_scoring_equals_and_never_mixes_references(
    compares: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    whole, out = tmp_path / "whole.csv", tmp_path / "t.csv"
    score_paths(compares, [str(pairs)], whole, reference=RULE, batch_size=4)
    with monkeypatch.context() as patch:
        patch.setattr("twonines.serving.score.write_table", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            score_paths(compares, [str(pairs)], out, reference=RULE, batch_size=4)
    journal = tmp_path / "t.csv.journal.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:6]))
    if change == "none":
        assert score_paths(compares, [str(pairs)], out, reference=RULE).scored == 8
        assert out.read_bytes() == whole.read_bytes()
        return
    if change == "file":
        os.utime(pairs / "00_temp.png", ns=(1, 1))
        rule, inputs = RULE, str(pairs / "*_test.png")
    else:
        rule, inputs = str(tmp_path / "golden.png"), str(pairs)
        (tmp_path / "golden.png").write_bytes(DARK)
    with pytest.raises(InputError, match="other .*references"):
        score_paths(compares, [inputs], out, reference=rule)
