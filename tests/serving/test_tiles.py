"""Large pictures in tiles: over HTTP, in batch scoring and on the command line."""

import csv
import io
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from fastapi.testclient import TestClient
from PIL import Image as PILImage
from typer.testing import CliRunner

from tests.conftest import tiny_card, write_tiny_model
from tests.images import png
from tests.made_models import write_spot_model
from twonines.cli.app import app
from twonines.errors import ImageError, ModelFileError, SettingsError, TwoninesError
from twonines.models.card import Metric, ModelCard, Policy, Tiling
from twonines.models.outputs import Outputs
from twonines.models.session import InspectionSession
from twonines.serving.app import create_app
from twonines.serving.batcher import Batcher
from twonines.serving.score import score_paths
from twonines.settings import ServeSettings
from twonines.training.retile import tile_model
from twonines.types import Image, Verdict

POLICY = Policy(threshold=0.5, min_region_area=0.0001)


def encode(image: Image) -> bytes:
    out = io.BytesIO()
    PILImage.fromarray(image).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    card = tiny_card(input_size=(256, 256), tiling=Tiling(), policy=POLICY)
    return write_spot_model(tmp_path_factory.mktemp("m") / "tiled.onnx", card)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4,096 x 4,096 pixels with a defect of 6."""
    image = np.full((4096, 4096, 3), 30, np.uint8)
    image[1021:1027, 3070:3076] = 255
    path = tmp_path_factory.mktemp("p") / "large.png"
    path.write_bytes(encode(image))
    return path


def test_a_6_pixel_defect_in_4096_pixels_over_http(tiled: Path, large: Path) -> None:
    settings = ServeSettings(model=tiled, execution_provider="cpu")
    with TestClient(create_app(settings)) as client:
        files = [("files", ("large.png", large.read_bytes())), ("files", ("a.png", png(30)))]
        answer = client.post("/v1/inspect", files=files)
        found, small = answer.json()["results"]
        assert found["verdict"] == "NG"
        assert [region["box"] for region in found["regions"]] == [[3070, 1021, 3076, 1027]]
        assert small["verdict"] == "OK"
        text = client.get("/metrics").text
        assert "twonines_inference_total 442.0" in text  # 441 tiles and one picture
        assert "twonines_batch_size_sum 442.0" in text
    few = ServeSettings(model=tiled, execution_provider="cpu", max_tiles=440)
    with TestClient(create_app(few)) as client:
        answer = client.post("/v1/inspect", files=files)
        assert [r["verdict"] for r in answer.json()["results"]] == ["ERROR", "OK"]
        error = answer.json()["results"][0]["error"]
        assert error["status"] == 422 and "max_tiles" in error["message"]


def test_a_6_pixel_defect_in_4096_pixels_in_a_table_and_shown(
    tiled: Path, large: Path, tmp_path: Path
) -> None:
    score_paths(tiled, [str(large)], tmp_path / "t.csv")
    row = next(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert (row["verdict"], row["regions"]) == ("NG", "1")
    limited = score_paths(tiled, [str(large)], tmp_path / "t.csv", max_tiles=440)
    assert limited.counts == {"ERROR": 1}
    out = tmp_path / "o.png"
    done = CliRunner().invoke(app, ["show", str(tiled), str(large), "--out", str(out)])
    assert done.exit_code == 0 and done.stdout.startswith("NG")
    with PILImage.open(out) as drawn:
        assert drawn.size == (4096, 4096 + 64)


class Gated:
    """Sees the brightest pixel; waits until it is let go, and fails on one of value 13."""

    def __init__(self) -> None:
        self.card: ModelCard = tiny_card(tiling=Tiling(overlap=0), policy=POLICY)
        self.certificate_fault: str | None = None
        self.gate = threading.Event()
        self.batches: list[int] = []

    @property
    def input_size(self) -> tuple[int, int]:
        return (32, 32)

    def run(self, images: Image, references: Image | None = None, **_: bool) -> Outputs:
        self.gate.wait(10)
        self.batches.append(len(images))
        if (images == 13).any():
            raise RuntimeError("poison")
        score = (images.max((1, 2, 3)) / 255).astype(np.float32)
        maps = (images[..., 0] / 255).astype(np.float32)
        return Outputs(score, np.stack([1 - score, score], 1), maps, np.zeros_like(score))


def wait_for(batcher: Batcher, count: int) -> None:
    while batcher.waiting < count:
        threading.Event().wait(0.005)


def test_a_small_picture_does_not_wait_behind_a_large_one() -> None:
    session = Gated()
    batcher = Batcher(session, max_batch_size=4)
    large = np.zeros((320, 320, 3), np.uint8)  # 100 tiles
    large[-1, -1] = 255
    first = batcher.submit(encode(large))
    wait_for(batcher, 1)
    small = batcher.submit(png(0, (32, 32)))
    wait_for(batcher, 2)
    done: list[str] = []
    first.add_done_callback(lambda _: done.append("large"))
    small.add_done_callback(lambda _: done.append("small"))
    session.gate.set()
    assert first.result(10).inspection.verdict is Verdict.NG
    assert first.result().inspection.regions[0].box == (319, 319, 320, 320)
    assert small.result(10).inspection.verdict is Verdict.OK
    batcher.close()
    assert done == ["small", "large"]
    assert sum(session.batches) == 101 and max(session.batches) == 4
    assert first.result().batch_size == 4
    assert {"queue", "compute", "decision", "total"} <= set(first.result().timings_ms)


def test_a_tile_that_fails_costs_its_picture_and_no_more_runs() -> None:
    session = Gated()
    session.gate.set()
    batcher = Batcher(session, max_batch_size=8)
    bad = np.zeros((320, 320, 3), np.uint8)
    bad[0, 0] = 13
    futures = [batcher.submit(data) for data in (encode(bad), png(0, (96, 96)), png(255, (96, 96)))]
    with pytest.raises(TwoninesError, match="could not be inspected"):
        futures[0].result(10)
    assert futures[1].result(10).inspection.verdict is Verdict.OK
    assert futures[2].result(10).inspection.verdict is Verdict.NG
    batcher.close()
    assert batcher.in_flight == 0
    assert sum(session.batches) < 60  # not its 100 tiles


def test_a_cancelled_picture_stops_between_its_tiles() -> None:
    session = Gated()
    batcher = Batcher(session, max_batch_size=4)
    future = batcher.submit(png(0, (320, 320)))
    wait_for(batcher, 1)
    assert future.cancel()
    session.gate.set()
    batcher.close()
    assert sum(session.batches) <= 8
    assert batcher.in_flight == 0


def test_pictures_in_tiles_hold_their_room_until_they_are_answered() -> None:
    session = Gated()
    # Room for two of 96 x 96 at once, small as they are.
    batcher = Batcher(session, max_batch_size=4, decode_workers=4, max_decode_pixels=2 * 96 * 96)
    futures = [batcher.submit(png(0, (96, 96))) for _ in range(10)]
    wait_for(batcher, 1)
    threading.Event().wait(0.1)
    assert sum(item.picture is not None for item in batcher._queue._waiting) <= 2
    assert sum(future.done() for future in futures) == 0
    assert batcher._decoding.room._used <= 2 * 96 * 96 and len(batcher._decoding.room._waiting) >= 7
    session.gate.set()
    batcher.close()  # answers those that wait for room as well
    assert all(future.result(0).inspection.verdict is Verdict.OK for future in futures)
    assert batcher._decoding.room._used == 0


def test_a_broken_picture_gives_its_room_back() -> None:
    session = Gated()
    session.gate.set()
    batcher = Batcher(session, max_decode_pixels=1)
    data = [png(0, (96, 96))[:90] if i % 2 else png(0, (96, 96)) for i in range(6)]
    futures = [batcher.submit(item) for item in data]
    for index, future in enumerate(futures):
        if index % 2:
            with pytest.raises(ImageError):
                future.result(10)
        else:
            assert future.result(10).inspection.verdict is Verdict.OK
    batcher.close()


def test_resumed_scoring_of_tiles_equals(
    tiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, whole, out = tmp_path / "p", tmp_path / "whole.csv", tmp_path / "t.csv"
    place.mkdir()
    for index in range(9):
        (place / f"{index}.png").write_bytes(png(250 * (index % 2), (100 + 90 * index, 300)))
    assert score_paths(tiled, [str(place)], whole, batch_size=3).counts == {"NG": 4, "OK": 5}
    with monkeypatch.context() as patch:
        patch.setattr("twonines.serving.score.write_table", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            score_paths(tiled, [str(place)], out, batch_size=3)
    journal = tmp_path / "t.csv.journal.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:5]))
    assert score_paths(tiled, [str(place)], out).scored == 6
    assert out.read_bytes() == whole.read_bytes()


def test_a_model_is_turned_into_one_that_looks_at_tiles(tmp_path: Path) -> None:
    card = tiny_card(metrics={"accuracy": Metric(value=0.9, n=9)}, parity={"reference": 1e-6})
    model, out = write_tiny_model(tmp_path / "m.onnx", card), tmp_path / "new" / "tiled.onnx"
    arguments = ["tile", str(model), "--out", str(out), "--overlap", "0.5", "--scale", "2"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    made = InspectionSession.load(out, execution_provider="cpu").card
    assert made.tiling == Tiling(overlap=0.5, scale=2)
    assert made.metrics == {} and made.parity == {} and made.certificate is None
    assert made.policy == card.policy and made.name == card.name
    before, after = onnx.load(model), onnx.load(out)
    assert before.graph == after.graph
    for overlap, scale, message in ((0.9, 1, "overlap"), (0.1, 0, "scale"), (0.1, 9, "scale")):
        with pytest.raises(SettingsError, match=message):
            tile_model(model, out, overlap=overlap, scale=scale)
    with pytest.raises(SettingsError, match="another file"):
        tile_model(model, model, overlap=0.1, scale=1)
    (tmp_path / "no.onnx").write_bytes(b"x")
    with pytest.raises(ModelFileError):
        tile_model(tmp_path / "no.onnx", out, overlap=0.1, scale=1)
