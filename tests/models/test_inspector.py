from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import tiny_card, write_tiny_model
from tests.made_models import write_comparing_model, write_spot_model
from twonines.errors import ImageError
from twonines.models.card import ModelCard, Policy, Tiling
from twonines.models.decision import decide
from twonines.models.image import encode_png, resize
from twonines.models.inspector import Inspector, Prepared
from twonines.models.outputs import Outputs
from twonines.models.overlay import explain
from twonines.models.session import InspectionSession
from twonines.types import Image, Inspection, Verdict

POLICY = Policy(threshold=0.5, min_region_area=0.0001)


def load(path: Path) -> InspectionSession:
    return InspectionSession.load(path, execution_provider="cpu", threads=1)


def spotted(size: tuple[int, int], *spots: tuple[int, int], side: int = 6) -> Image:
    image = np.full((*size, 3), 30, np.uint8)
    for top, left in spots:
        image[top : top + side, left : left + side] = 255
    return image


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory) -> InspectionSession:
    card = tiny_card(tiling=Tiling(overlap=0.25), policy=POLICY)
    return load(write_spot_model(tmp_path_factory.mktemp("m") / "tiled.onnx", card))


@pytest.fixture(scope="module")
def compares(tmp_path_factory: pytest.TempPathFactory) -> InspectionSession:
    card = tiny_card(reference=True, input_size=(64, 64), policy=POLICY)
    return load(write_comparing_model(tmp_path_factory.mktemp("m") / "c.onnx", card, spot=True))


def test_a_6_pixel_defect_in_4096_pixels_is_found_with_tiles_only(tmp_path: Path) -> None:
    def card(tiling: Tiling | None) -> ModelCard:
        return tiny_card(input_size=(256, 256), tiling=tiling, policy=POLICY)

    whole = Inspector(load(write_spot_model(tmp_path / "whole.onnx", card(None))))
    pieces = Inspector(load(write_spot_model(tmp_path / "tiled.onnx", card(Tiling()))))
    image = spotted((4096, 4096), (1021, 3070))
    clean = spotted((4096, 4096))
    found = [next(one.inspect([one.prepare(image)], 32)) for one in (whole, pieces)]
    assert [one.verdict for one in found] == [Verdict.OK, Verdict.NG]
    assert [region.box for region in found[1].regions] == [(3070, 1021, 3076, 1027)]
    assert found[1].regions[0].area == 36
    assert next(pieces.inspect([pieces.prepare(clean)], 32)).verdict is Verdict.OK


@pytest.mark.parametrize("place", [(0, 0), (94, 194), (0, 194), (94, 0), (22, 20), (45, 99)])
def test_a_defect_at_any_edge_is_found_at_its_place(
    tiled: InspectionSession, place: tuple[int, int]
) -> None:
    found, drawn = explain(Inspector(tiled), encode_png(spotted((100, 200), place)))
    top, left = place
    assert found.verdict is Verdict.NG
    assert [region.box for region in found.regions] == [(left, top, left + 6, top + 6)]
    assert drawn.shape[1] >= 480


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (31, 33)])
def test_pictures_smaller_than_a_tile(tiled: InspectionSession, size: tuple[int, int]) -> None:
    inspector = Inspector(tiled)
    for value, verdict in ((0, Verdict.OK), (255, Verdict.NG)):
        found = explain(inspector, encode_png(np.full((*size, 3), value, np.uint8)))[0]
        assert found.verdict is verdict
        assert [r.box for r in found.regions] == ([(0, 0, size[1], size[0])] if value else [])


@pytest.mark.parametrize("batch_size", [1, 2, 7, 32])
def test_batches_and_mixtures_change_nothing(tiled: InspectionSession, batch_size: int) -> None:
    inspector = Inspector(tiled)
    images = [spotted((90, 130), (9 * i, 11 * i)) if i % 3 else spotted((40, 70)) for i in range(6)]
    broken = Inspection(Verdict.ERROR, error="not read")

    def pictures() -> Iterator[Prepared | Inspection]:
        for image in images:
            yield inspector.prepare(image)
            yield broken

    found = list(inspector.inspect(pictures(), batch_size))
    assert found[1::2] == [broken] * 6
    alone = [decide(inspector.outputs(inspector.prepare(i)), tiled.card, [i.shape[:2]])[0]
             for i in images]  # fmt: skip
    for mixed, one in zip(found[::2], alone, strict=True):
        assert (mixed.verdict, mixed.regions) == (one.verdict, one.regions)
        assert mixed.score == pytest.approx(one.score, abs=1e-6)


def test_few_large_pictures_lie_in_memory(tiled: InspectionSession) -> None:
    inspector = Inspector(tiled)
    taken = 0

    def pictures() -> Iterator[Prepared]:
        nonlocal taken
        for _ in range(10):
            taken += 1
            yield inspector.prepare(spotted((100, 100)))  # 16 tiles

    answers = inspector.inspect(pictures(), 8)
    next(answers)
    assert taken == 1
    picture = inspector.prepare(spotted((200, 200)))
    assert picture.image.nbytes == 200 * 200 * 3 and len(picture) == 64


def test_without_tiles_and_reference_a_picture_is_resized_and_nothing_more(
    tiny_model: Path,
) -> None:
    session = load(tiny_model)
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    picture = Inspector(session).prepare(image)
    assert len(picture) == 1 and picture.grid is None and picture.size == (50, 70)
    assert (picture.image == resize(image, (32, 32))).all()
    exact = np.zeros((32, 32, 3), np.uint8)
    assert Inspector(session).prepare(exact).image is exact  # no copy


def test_a_tile_that_fails_costs_only_its_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = tiny_card(tiling=Tiling(overlap=0))
    inspector = Inspector(load(write_tiny_model(tmp_path / "m.onnx", card)))
    run = InspectionSession.run

    def poisoned(self: InspectionSession, images: Image, *rest: Any, **how: Any) -> Outputs:
        if (images[:, -1, -1, 0] == 13).any():
            raise RuntimeError("poison")
        return run(self, images, *rest, **how)

    monkeypatch.setattr(InspectionSession, "run", poisoned)
    images = [np.zeros((64, 96, 3), np.uint8) for _ in range(5)]
    images[1][31, 31] = images[1][-1, -1] = images[3][-1, -1] = 13
    for batch_size in (1, 4, 7, 100):
        pictures = (inspector.prepare(image) for image in images)
        found = [one.verdict for one in inspector.inspect(pictures, batch_size)]
        wanted = [Verdict.OK, Verdict.ERROR, Verdict.OK, Verdict.ERROR, Verdict.OK]
        assert found == wanted


def test_a_picture_is_compared_with_its_reference(compares: InspectionSession) -> None:
    inspector = Inspector(compares)
    golden = spotted((64, 64), (10, 10), (40, 30))
    for image, verdict in (
        (golden, Verdict.OK),
        (spotted((64, 64), (10, 10), (40, 30), (20, 50)), Verdict.NG),
    ):
        assert explain(inspector, encode_png(image), golden)[0].verdict is verdict


def board(side: int) -> Image:
    image = np.zeros((side, side, 3), np.uint8)
    for start in range(8, side - 8, 13):
        image[start : start + 3, 5 : start + 2] = 200
        image[start : side - 6, start : start + 3] = 200
    return image


@pytest.mark.parametrize("with_tiles", [False, True])
def test_a_shifted_picture_is_compared_where_it_lies(tmp_path: Path, with_tiles: bool) -> None:
    card = tiny_card(
        reference=True,
        input_size=(64, 64) if with_tiles else (128, 128),
        tiling=Tiling() if with_tiles else None,
        policy=POLICY,
    )
    path = write_comparing_model(tmp_path / "c.onnx", card, spot=True)
    inspector = Inspector(load(path))
    golden = board(128)
    image = np.zeros_like(golden)
    image[3:, 2:] = golden[:-3, :-2]
    assert explain(inspector, encode_png(image), golden)[0].verdict is Verdict.OK
    image[20:26, 100:106] = 255
    found = explain(inspector, encode_png(image), golden)[0]
    assert [region.box for region in found.regions] == [(100, 20, 106, 26)]


def test_references_are_resized_in_the_same_ratio_and_refused_in_another(
    compares: InspectionSession, tiny_model: Path
) -> None:
    inspector = Inspector(compares)
    image = np.zeros((100, 200, 3), np.uint8)
    for size in ((100, 200), (50, 100), (400, 800), (100, 203)):
        assert (
            explain(inspector, encode_png(image), np.zeros((*size, 3), np.uint8))[0].verdict
            is Verdict.OK
        )
    for size in ((100, 210), (200, 100), (110, 200)):
        with pytest.raises(ImageError, match=f"200 x 100 .* got {size[1]} x {size[0]}"):
            inspector.prepare(image, np.zeros((*size, 3), np.uint8))
    with pytest.raises(ImageError, match="reference: must be given"):
        inspector.prepare(image)
    with pytest.raises(ImageError, match="reference: must not be given"):
        Inspector(load(tiny_model)).prepare(image, image)


def test_too_many_tiles_are_refused(tiled: InspectionSession) -> None:
    with pytest.raises(ImageError, match="max_tiles"):
        Inspector(tiled, max_tiles=15).prepare(spotted((100, 100)))
    assert len(Inspector(tiled, max_tiles=16).prepare(spotted((100, 100)))) == 16


def test_withdrawn_certificate_and_picture_faults_reach_every_way(tiny_model: Path) -> None:
    session = InspectionSession.load(tiny_model, execution_provider="cpu")
    reasons: list[str | None] = [None]
    inspector = Inspector(session, withdrawn=lambda: reasons[0])
    assert inspector.fault is None
    reasons[0] = "drift"
    assert inspector.fault == "drift"
    picture = inspector.prepare(np.full((64, 48, 3), 10, np.uint8))
    assert picture.quality["height"] == 64 and picture.quality["brightness"] == 10
