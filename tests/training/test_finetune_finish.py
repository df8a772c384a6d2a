"""What is fitted after training, and the thresholds that follow."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from tests.training.defects import make_parts
from tests.training.threads import one_torch_thread
from twonines.errors import GateError
from twonines.models.backbone import POOLS
from twonines.models.finetuned import Finish
from twonines.models.head import HeadWeights
from twonines.models.network import DefectNetwork, Layout
from twonines.training import finetune_finish as finishing
from twonines.training import finetune_neighbours as module
from twonines.training.finetune_data import open_gallery
from twonines.training.finetune_finish import match_boxes
from twonines.training.finetune_neighbours import compare, fit_neighbours
from twonines.training.fit import FeatureLayout, fit_head

LAYOUT = Layout(("square", "stripe"), has_good=True)
TWO_NEIGHBOURS = fit_head(
    np.array([[0.0], [1.0]], np.float32), np.array([0, 1]), np.ones(2, np.float32),
    ("good", "defective"), FeatureLayout(np.ones(1, np.float32)), seed=0,
)  # fmt: skip
"""A good picture, whose one feature is 0, and a defective one, where it is 1."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with one_torch_thread():
        yield


def fitted(*signs: Any, like: Any, truth: Any) -> tuple[Any, Any, Finish]:
    """Slopes for signs of unit deviation, odds of every picture, and the finish they are of."""
    features = np.asarray(like, np.float32)[:, None]
    kinds = np.random.default_rng(0).normal(size=(len(truth), 2))
    held = finishing.Answers(features, np.stack(signs, 1), kinds, [], [])
    finish, novelty = finishing.fit_finish(DefectNetwork(LAYOUT), TWO_NEIGHBOURS, held, truth)
    alike, far = compare(TWO_NEIGHBOURS, features)
    assert novelty == pytest.approx(float(far.max()))
    every = np.column_stack([held.signs, alike])
    return finish.reject[:-1] * every.std(0), every @ finish.reject[:-1] + finish.reject[-1], finish


def test_the_score_follows_what_sorts_the_held_out_pictures() -> None:
    rng = np.random.default_rng(0)
    truth, none = np.repeat([0, 1], 40), np.zeros(80)
    sorting, noise, other = truth + rng.normal(0, 0.3, 80), *rng.normal(size=(2, 80))
    for place in range(3):
        signs = [noise, other, none]
        signs[place] = 100 * sorting + 7
        slopes, odds, _ = fitted(*signs, like=rng.normal(size=80), truth=truth)
        assert slopes[place] > 2 and not np.delete(slopes[:3], place).any()
        assert slopes[3] < 0.2 * slopes[place]
        assert ((odds > 0) == truth).mean() > 0.9
    slopes, odds, _ = fitted(noise, other, none, like=sorting, truth=truth)
    assert slopes[3] > 2 and slopes[:3].max() < 0.2 * slopes[3]
    assert ((odds > 0) == truth).mean() > 0.9


def test_signs_that_err_apart_are_taken_together() -> None:
    rng = np.random.default_rng(1)
    truth = np.repeat([0, 1], 40)
    one, two, three = (truth + rng.normal(0, 0.8, 80) for _ in range(3))
    slopes, odds, _ = fitted(one, 100 * two + 7, np.zeros(80), like=three, truth=truth)
    assert slopes[0] == pytest.approx(slopes[1], rel=1e-3) and slopes[2] == 0
    assert slopes[0] > 0.3 and slopes[3] > 0.3
    alone = max(roc_auc_score(truth, sign) for sign in (one, two, three))
    assert roc_auc_score(truth, odds) > alone


def test_what_never_varies_has_no_say() -> None:
    rng = np.random.default_rng(0)
    truth, none = np.repeat([0, 1], 40), np.zeros(80)
    sorting = truth + rng.normal(0, 0.3, 80)
    slopes, odds, finish = fitted(sorting, none + 3, none, like=none, truth=truth)
    assert slopes[0] > 2 and not finish.reject[1:4].any() and np.abs(odds).max() < 50
    with pytest.raises(GateError, match="its slope is 0"):
        fitted(none, none, none, like=none, truth=truth)
    with pytest.raises(GateError, match="its slope is"):
        fitted(1 - sorting, none, none, like=1 - sorting, truth=truth)  # turned around
    with pytest.raises(GateError, match="got 80 defective ones among 80"):
        fitted(sorting, none, none, like=sorting, truth=np.ones(80, int))


def neighbours(
    root: Path, counts: dict[str, int], layout: Layout = LAYOUT, certainty: float = 1.0
) -> tuple[DefectNetwork, HeadWeights]:
    """An untrained network, and the neighbours of generated parts."""
    records = make_parts(root, counts).records
    records = tuple(replace(r, certainty=certainty if r.is_defective else 1.0) for r in records)
    gallery = open_gallery(records, layout, (64, 64))
    network, told = DefectNetwork(layout).settle(), []
    found = fit_neighbours(network, gallery, lambda done, total: told.append((done, total)), seed=0)
    assert told[-1] == (len(records), len(records))
    return network, found


def test_neighbours_tell_parts_apart_that_they_have_not_seen(tmp_path: Path) -> None:
    network, found = neighbours(tmp_path / "a", {"good": 20, "square": 20})
    others = make_parts(tmp_path / "b", {"good": 9, "square": 9}, seed=1)
    gallery = open_gallery(others.records, LAYOUT, (64, 64))
    held = finishing.ask(network, gallery)
    sign, novelty = compare(found, held.features)
    truth = [record.is_defective for record in others.records]
    assert roc_auc_score(truth, sign) > 0.95 and found.has_good
    assert np.allclose(
        held.features, network.features(*gallery.tensors(range(18))).numpy(), atol=1e-3
    )
    noise = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    _, far = compare(found, network.features(torch.from_numpy(noise)).numpy())
    assert far.min() > novelty.max()


def test_an_unsure_label_pulls_less(tmp_path: Path) -> None:
    counts = {"good": 12, "square": 12}
    features = np.zeros((1, POOLS * sum(DefectNetwork(LAYOUT).widths)), np.float32)
    weights = [neighbours(tmp_path, counts, certainty=c)[1] for c in (1.0, 0.0)]
    sure, unsure = (one.offset for one in weights)
    assert sure[1] == pytest.approx(0.5) and unsure[1] == pytest.approx(0.25)
    assert np.isfinite(compare(weights[1], features)[0]).all()


def test_without_good_parts_neighbours_say_only_how_new(tmp_path: Path) -> None:
    kinds = Layout(("square", "stripe"), has_good=False)
    network, found = neighbours(tmp_path, {"square": 8, "stripe": 8}, kinds)
    assert found.alphas.shape == (16, 1) and not found.has_good
    gallery = open_gallery(make_parts(tmp_path, {"square": 3}).records, kinds, (64, 64))
    assert compare(found, finishing.ask(network, gallery).features)[1].max() < 0.05


def test_more_pictures_are_compared_than_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.random.default_rng(0).normal(size=(7, 1)).astype(np.float32)
    whole = compare(TWO_NEIGHBOURS, features)
    monkeypatch.setattr(module, "CHUNK", 3)
    for one, other in zip(whole, compare(TWO_NEIGHBOURS, features), strict=True):
        assert one.shape == (7,) and np.allclose(one, other)


def test_a_box_is_right_once_and_for_its_kind() -> None:
    truth = np.array([[0, 0, 10, 10]], np.float32)
    found = np.array([[0, 0, 10, 9], [0, 0, 10, 10], [0, 0, 10, 10]], np.float32)
    kinds = np.array([1, 0, 0])
    assert match_boxes(found, kinds, truth, np.zeros(1, np.float32)).tolist() == [
        False, True, False,
    ]  # fmt: skip


def stub(boxes: list[Any]) -> Any:
    """Answers or a gallery of which only the boxes matter."""
    return SimpleNamespace(boxes=boxes)


def thresholds(scores: list[list[float]], right: list[list[bool]]) -> float | None:
    """The threshold for pictures with two marked boxes each, 100 px apart."""
    boxes, truth = [], []
    for row, hits in zip(scores, right, strict=True):
        corners = np.array([[100 * i, 0, 100 * i + 10, 10] for i in range(2)], np.float32)
        truth.append((corners, np.zeros(2, np.float32)))
        free, found = iter(corners), []
        for hit in hits:
            found.append(next(free) if hit else np.array([500, 500, 510, 510], np.float32))
        boxes.append((np.array(found, np.float32).reshape(-1, 4), np.array(row, np.float32),
                      np.zeros(len(row), np.int64)))  # fmt: skip
    return finishing.box_threshold(stub(boxes), stub(truth))


def test_the_threshold_of_boxes_lies_between_true_and_false_ones() -> None:
    found = thresholds([[0.9, 0.8, 0.2], [0.7, 0.6, 0.1]], [[True, True, False]] * 2)
    assert found == pytest.approx(0.4)
    assert thresholds([[0.9, 0.8]], [[True, True]]) == pytest.approx(0.4)  # no false one
    none = stub([(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))])
    empty = stub([(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))])
    assert finishing.box_threshold(empty, none) is None


def test_the_threshold_of_boxes_is_the_middle_of_what_cannot_be_told_apart() -> None:
    """Twenty true boxes from 0.5 up, one at 0.15 below a false one at 0.3: as good with as without.

    The false ones from 0.1 down are many, and worse.
    """
    scores = [[0.5 + 0.02 * i, 0.5 + 0.02 * i] for i in range(10)]
    right = [[True, True] for _ in range(10)]
    scores += [[0.9, 0.3, 0.15], *[[0.1, 0.1] for _ in range(20)]]
    right += [[True, False, True], *[[False, False] for _ in range(20)]]
    every = sorted((s, r) for row, hits in zip(scores, right, strict=True)
                   for s, r in zip(row, hits, strict=True))[::-1]  # fmt: skip
    wanted = 2 * len(scores)
    f1 = [2 * sum(r for _, r in every[: n + 1]) / (n + 1 + wanted) for n in range(len(every))]
    error = (max(f1) * (1 - max(f1)) / wanted) ** 0.5
    good = [n for n, value in enumerate(f1) if value >= max(f1) - error]
    assert good == list(range(good[0], good[-1] + 1)) and every[good[-1] + 1][0] < every[good[0]][0]
    middle = (every[good[0]][0] + every[good[-1] + 1][0]) / 2
    assert thresholds(scores, right) == pytest.approx(middle)
