from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import softmax
from sklearn.kernel_ridge import KernelRidge

from twonines.models.head import HeadWeights
from twonines.training import fit
from twonines.types import FloatArray


def blobs(count: int = 60, seed: int = 0) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    features = rng.normal(size=(count, 12)).astype(np.float32)
    features[:, :3] += 3 * labels[:, None]
    return features, labels


LAYOUT = fit.FeatureLayout.of([1, 2])
SURE = np.ones(60, np.float32)


def fitted(certainty: FloatArray = SURE) -> HeadWeights:
    features, labels = blobs()
    return fit.fit_head(features, labels, certainty, ("good", "bad"), LAYOUT, seed=0)


def test_responses_equal_scikit_learns_kernel_ridge() -> None:
    features, labels = blobs()
    weights = fitted()

    def z(values: FloatArray) -> FloatArray:
        return fit.standardise(values, weights.mean, weights.gain, weights.weight)

    targets = np.eye(2)[labels] - weights.offset
    ridge = KernelRidge(alpha=fit.RIDGE, kernel="rbf", gamma=1.0).fit(z(features), targets)
    other, _ = blobs(seed=1)
    expected = ridge.predict(z(other)) + weights.offset
    assert np.allclose(fit.responses(weights, other), expected, atol=5e-3)


def test_every_block_has_the_same_share_and_wild_values_are_cut() -> None:
    assert np.allclose([(LAYOUT.weight[:4] ** 2).sum(), (LAYOUT.weight[4:] ** 2).sum()], 0.5)
    weights = fitted()
    wild = np.full((1, 12), 1e9, np.float32)
    assert fit.novelty(weights, wild)[0] < 12


def test_a_feature_that_never_varied_is_left_out() -> None:
    features, labels = blobs()
    features[:, 5] = 7.0
    weights = fit.fit_head(features, labels, SURE, ("good", "bad"), LAYOUT, seed=0)
    assert weights.gain[5] == 0
    changed = features.copy()
    changed[:, 5] = -1000.0
    assert np.array_equal(fit.responses(weights, changed), fit.responses(weights, features))


def test_unsure_labels_pull_less() -> None:
    targets = fit.soft_targets(np.array([0, 1]), np.array([1.0, 0.5], np.float32), 3)
    assert targets.tolist() == [[1.0, 0.0, 0.0], [0.125, 0.75, 0.125]]


def test_landmarks_keep_every_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "MAX_LANDMARKS", 20)
    weights = fitted()
    assert 18 <= len(weights.landmarks) <= 22
    features, labels = blobs(seed=1)
    assert (fit.responses(weights, features).argmax(1) == labels).mean() > 0.9


def test_same_seed_same_weights() -> None:
    assert np.array_equal(fitted().alphas, fitted().alphas)


def test_novelty_is_zero_on_training_and_grows() -> None:
    features, _ = blobs()
    weights = fitted()
    assert fit.novelty(weights, features).max() < 0.05
    assert fit.novelty(weights, features + 100).min() > 3


def with_responses(
    monkeypatch: pytest.MonkeyPatch, raw: npt.NDArray[np.float64], has_good: bool
) -> HeadWeights:
    monkeypatch.setattr(fit, "responses", lambda *_: raw)
    return replace(fitted(), has_good=has_good)


def test_platt_recovers_its_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    good = rng.uniform(0, 1, 8000)
    p = 1 / (1 + np.exp(-(4.0 * (1 - 2 * good) - 0.5)))
    labels = (rng.uniform(size=8000) < p).astype(np.int64)
    weights = with_responses(monkeypatch, np.stack([good, 1 - good], 1), True)
    found = fit.calibrate(weights, np.empty((0, 12), np.float32), labels).reject
    assert found == pytest.approx([4.0, -0.5], abs=0.25)


def test_the_sigmoid_recovers_slopes_of_several_signs_and_none_below_zero() -> None:
    rng = np.random.default_rng(0)
    signs = rng.normal(size=(8000, 3))
    p = 1 / (1 + np.exp(-(signs @ [2.0, 0.5, -1.0] - 0.5)))
    defective = rng.uniform(size=8000) < p
    two = fit.fit_sigmoid(signs[:, :2], defective)
    assert two[0] / two[1] == pytest.approx(4.0, abs=0.5) and two[2] < 0
    assert fit.fit_sigmoid(signs, defective)[2] == 0
    assert fit.fit_sigmoid(signs[:, :0], defective) == pytest.approx(
        [np.log(defective.mean() / (1 - defective.mean()))], abs=1e-3
    )


@pytest.mark.parametrize("has_good", [True, False])
def test_temperature_recovers_its_value(monkeypatch: pytest.MonkeyPatch, has_good: bool) -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal(size=(4000, 3)) * 0.3
    p = softmax(raw * 4.0, axis=1)
    labels = np.array([rng.choice(3, p=row) for row in p])
    if has_good:
        raw, labels = np.concatenate([np.full((4000, 1), 0.1), raw], 1), labels + 1
    weights = with_responses(monkeypatch, raw, has_good)
    found = fit.calibrate(weights, np.empty((0, 12), np.float32), labels)
    assert found.temperature[0] == pytest.approx(4.0, rel=0.15)
    scores = fit.probabilities(found, np.empty((0, 12), np.float32))
    assert np.allclose(scores.sum(1), 1)


def test_evidence_split_among_kinds_still_rejects(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = np.array([[0.4, 0.2, 0.2, 0.2]])
    weights = with_responses(monkeypatch, raw, True)
    assert fit.probabilities(weights, np.empty((1, 12), np.float32))[0, 0] < 0.5


def test_perfect_split_gives_platts_smoothed_probabilities(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels = np.repeat([0, 1], 5)
    raw = np.stack([1.0 - labels, labels.astype(np.float64)], 1)
    weights = with_responses(monkeypatch, raw, True)
    found = fit.calibrate(weights, np.empty((0, 12), np.float32), labels)
    scores = fit.probabilities(found, np.empty((0, 12), np.float32))[:, 1]
    # Five of five: (5 + 1) / (5 + 2) for defective, 1 / (5 + 2) for good.
    assert scores == pytest.approx(np.where(labels, 6 / 7, 1 / 7), abs=1e-3)
