"""`twonines tile --good`: threshold and limits of a model in tiles, on merged scores."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.conftest import tiny_card
from tests.made_models import write_comparing_model, write_spot_model
from twonines.cli.app import app
from twonines.errors import ImageError, SettingsError
from twonines.models.card import Policy
from twonines.models.inspector import Inspector
from twonines.models.quality import learn_limits, measure
from twonines.models.session import InspectionSession
from twonines.training.merged import HIGHEST, MOST, PICTURES, most_rejected, raised
from twonines.training.retile import tile_model
from twonines.types import Inspection

SIDE = 32
LARGE = (200, 160)
POLICY = Policy(threshold=0.5, accept_below=0.2, novelty_limit=0.01, min_region_area=0.01)


def grey(size: tuple[int, int], brightest: int, seed: int) -> Image.Image:
    """Noise from 90 to 100 with one pixel of ``brightest``, by which the spot model scores."""
    pixels = np.random.default_rng(seed).integers(90, 100, size, dtype=np.uint8)
    pixels[size[0] // 2, size[1] // 3] = brightest
    return Image.fromarray(pixels)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model with the limits of the pieces that it was taught on."""
    pieces = [np.asarray(grey((SIDE, SIDE), 110, k).convert("RGB")) for k in range(20)]
    limits = learn_limits(measure((SIDE, SIDE), piece) for piece in pieces)
    return write_spot_model(tmp_path / "m.onnx", tiny_card(policy=POLICY, quality=limits))


@pytest.fixture
def good(tmp_path: Path) -> Path:
    folder = tmp_path / "good"
    folder.mkdir()
    for k, brightest in enumerate((120, 139, 125)):
        grey(LARGE, brightest, 50 + k).save(folder / f"{k}.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


def inspect(model: Path, picture: Image.Image) -> Inspection:
    inspector = Inspector(InspectionSession.load(model, execution_provider="cpu"))
    prepared = inspector.prepare(np.asarray(picture.convert("RGB")))
    return next(iter(inspector.inspect([prepared], 8)))


def test_limits_of_pieces_do_not_judge_large_pictures(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiled.onnx"
    done = CliRunner().invoke(app, ["tile", str(model), "--out", str(out)])
    assert done.exit_code == 0 and "set all three with --good FOLDER" in done.stderr
    card = InspectionSession.load(out, execution_provider="cpu").card
    assert card.quality is None and card.policy.novelty_limit is None
    assert card.policy == POLICY.model_copy(update={"novelty_limit": None})
    assert inspect(out, grey(LARGE, 100, 1)).verdict == "OK"
    assert inspect(out, grey(LARGE, 250, 1)).verdict == "NG"


def test_threshold_and_limits_come_from_merged_scores(
    model: Path, good: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tiled.onnx"
    done = CliRunner().invoke(app, ["tile", str(model), "--out", str(out), "--good", str(good)])
    assert done.exit_code == 0, done.output
    assert "3 good pictures; of others at most 63.2%" in done.stdout
    card = InspectionSession.load(out, execution_provider="cpu").card
    highest = 1 / (1 + math.exp(-20 * (139 / 255 - 0.5)))
    found = card.calibration.parameters
    assert found[HIGHEST] == pytest.approx(highest, rel=1e-4) and found[PICTURES] == 3
    assert card.policy.threshold == pytest.approx(raised(highest), rel=1e-4)
    assert card.policy.accept_below is None
    scored = [inspect(out, grey(LARGE, v, 50 + k)) for k, v in enumerate((120, 139, 125))]
    novelties = [one.novelty for one in scored if one.novelty is not None]
    assert card.policy.novelty_limit == pytest.approx(1.25 * max(novelties))
    assert {one.verdict for one in scored} == {"OK"}
    assert card.quality is not None and card.quality.n == 3
    assert card.quality.limits["height"][0] < LARGE[0] < card.quality.limits["height"][1]
    # The same pixels are the least region: a share of a piece became one of a large picture.
    assert card.policy.min_region_area == pytest.approx(0.01 * SIDE**2 / math.prod(LARGE))
    spot = inspect(out, grey(LARGE, 170, 9))
    assert spot.verdict == "REVIEW" and "unlike the training pictures" in spot.reasons[0]
    small = inspect(out, grey((SIDE, SIDE), 110, 9))
    assert small.verdict == "REVIEW" and any("too few rows" in why for why in small.reasons)
    assert inspect(out, Image.new("L", LARGE[::-1], 95)).verdict == "REVIEW"  # blank


def test_neither_threshold_nor_novelty_is_lowered(tmp_path: Path) -> None:
    policy = Policy(threshold=0.5, novelty_limit=0.45)
    model, out = write_spot_model(tmp_path / "m.onnx", tiny_card(policy=policy)), tmp_path / "t"
    (tmp_path / "good").mkdir()
    grey(LARGE, 100, 3).save(tmp_path / "good/a.png")
    card = tile_model(model, out, overlap=0, scale=1, good=tmp_path / "good")
    assert raised(card.calibration.parameters[HIGHEST]) < card.policy.threshold == 0.5
    assert card.policy.novelty_limit == 0.45
    assert inspect(out, grey(LARGE, 170, 9)).verdict == "NG"


def test_what_cannot_set_limits_is_refused_by_name(model: Path, good: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.onnx"

    def tile(source: Path = model, folder: Path = good, most: int = 99) -> None:
        tile_model(source, out, overlap=0.25, scale=1, good=folder, max_tiles=most)

    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "none"):
        with pytest.raises(SettingsError, match="good: must be a folder with pictures"):
            tile(folder=folder)
    with pytest.raises(ImageError, match="0.png: image: at most 9 tiles"):
        tile(most=9)
    compares = write_comparing_model(tmp_path / "c.onnx", tiny_card(reference=True))
    with pytest.raises(SettingsError, match="good: must not be given .* reference"):
        tile(compares)
    grey(LARGE, 250, 1).save(good / "spot.png")
    with pytest.raises(SettingsError, match=f"below {MOST}, .* for spot.png"):
        tile()
    (good / "bad.png").write_bytes(b"x")
    with pytest.raises(ImageError, match="bad.png"):
        tile()
    assert not out.exists()
    tile_model(model, out, overlap=0.25, scale=1)
    with pytest.raises(SettingsError, match="model: must not work in tiles yet"):
        tile_model(out, tmp_path / "again.onnx", overlap=0.25, scale=1)


def test_a_threshold_lies_clearly_above_a_score() -> None:
    assert raised(0.5) == pytest.approx(1 / (1 + math.exp(-2)))
    assert 0.2 < raised(0.2) < 0.9 and raised(0.99999) == MOST
    assert raised(0.0) < 1e-4


def test_the_share_that_may_score_higher() -> None:
    assert most_rejected(1) == pytest.approx(0.95)
    # 59 without one: the rule of three, 1 - 0.05 ** (1 / 59) = 4.95 %
    assert most_rejected(59) == pytest.approx(0.0495, abs=1e-4)
