import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from twonines.benchmarks import agreement as ag

# AIAG MSA, 4th edition, III-C: 50 parts, 3 appraisers, 3 trials; answers against the reference.
# (rejected and bad, rejected and good, accepted and bad, accepted and good), of 150 looks.
AIAG = {"A": (45, 5, 3, 97), "B": (45, 2, 3, 100), "C": (42, 9, 6, 93)}
AIAG_PAIRS = {"AB": (44, 6, 3, 97), "BC": (42, 5, 9, 94), "AC": (43, 7, 8, 92)}


def pairs_of(table: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    cells = [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)]
    both = np.repeat(np.array(cells), table, axis=0)
    return both[:, 0], both[:, 1]


@pytest.mark.parametrize(
    ("table", "kappa"),
    [
        (AIAG_PAIRS["AB"], 0.86), (AIAG_PAIRS["BC"], 0.79), (AIAG_PAIRS["AC"], 0.78),
        (AIAG["A"], 0.88), (AIAG["B"], 0.92), (AIAG["C"], 0.77),
    ],
)  # fmt: skip
def test_kappa_of_the_aiag_manual(table: tuple[int, int, int, int], kappa: float) -> None:
    assert round(ag.cohen_kappa(*pairs_of(table)), 2) == kappa


def test_fleiss_of_the_textbook() -> None:
    # 14 raters, 10 subjects, 5 categories: kappa = 0.210.
    table = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    assert ag.fleiss_kappa(table) == pytest.approx(0.210, abs=5e-4)


@pytest.mark.parametrize("seed", range(3))
def test_cohen_against_sklearn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    a = generator.integers(0, 2, 50).astype(float)
    b = np.where(generator.random(50) < 0.3, 1 - a, a)
    assert ag.cohen_kappa(a, b) == pytest.approx(cohen_kappa_score(a, b))
    a[:5] = np.nan
    assert ag.cohen_kappa(a, b) == pytest.approx(cohen_kappa_score(a[5:], b[5:]))


def test_kappa_without_variation_is_not_known() -> None:
    assert np.isnan(ag.cohen_kappa([1, 1], [1, 1]))
    assert np.isnan(ag.fleiss_kappa([[3, 0], [3, 0]]))
    assert np.isnan(ag.cohen_kappa([], []))
    assert np.isnan(ag.fleiss_kappa([[1, 0]]))


@pytest.mark.parametrize(
    ("value", "high", "low"),
    [
        (0.90, "accept", "reject"), (0.8999, "marginal", "reject"), (0.80, "marginal", "reject"),
        (0.7999, "reject", "reject"), (0.05, "reject", "marginal"), (0.02, "reject", "accept"),
        (0.0201, "reject", "marginal"), (0.0501, "reject", "reject"),
        (float("nan"), "not known", "not known"),
    ],
)  # fmt: skip
def test_limits_of_the_manual(value: float, high: str, low: str) -> None:
    assert ag.grade_high(value, ag.EFFECTIVENESS) == high
    assert ag.grade_low(value, ag.MISS) == low
    assert ag.FALSE_ALARM == (0.05, 0.10)


@pytest.mark.parametrize(
    ("value", "grade"), [(0.751, "good"), (0.75, "fair"), (0.40, "fair"), (0.399, "poor")]
)
def test_kappa_grades(value: float, grade: str) -> None:
    assert ag.grade_kappa(value) == grade


def aiag_like() -> tuple[np.ndarray, np.ndarray]:
    """Two inspectors, 20 parts (5 defective), 3 looks; errors set by hand."""
    defective = np.arange(20) < 5
    rejected = np.repeat(np.tile(defective.astype(float)[None, :, None], (2, 1, 3)), 1, 0)
    rejected[0, 0, 2] = 0  # one miss of 15 looks, on one part
    rejected[0, 7, 0] = rejected[0, 8, :] = 1  # four false alarms of 45 looks, on two parts
    return rejected, defective


def test_attribute_study_by_hand() -> None:
    rejected, defective = aiag_like()
    found = ag.attribute_study(rejected, defective, ["Ann", "Bo"])
    ann, bo = found["inspectors"]
    assert (ann["effectiveness"]["k"], ann["effectiveness"]["n"]) == (17, 20)
    assert (ann["consistency"]["k"], ann["miss_rate"]["k"]) == (18, 1)
    assert (ann["miss_rate"]["n"], ann["false_alarm_rate"]["k"]) == (15, 4)
    assert ann["false_alarm_rate"]["n"] == 45
    assert ann["grades"] == {
        "effectiveness": "marginal", "miss_rate": "reject", "false_alarm_rate": "marginal"
    }  # fmt: skip
    assert (ann["grade"], bo["grade"], found["grade"]) == ("reject", "accept", "reject")
    assert bo["kappa_within"]["value"] == bo["kappa_reference"]["value"] == 1
    assert found["system_effectiveness"]["k"] == 17
    said, truth = rejected[0].ravel(), np.repeat(defective, 3)
    assert found["pairs"][0]["kappa"] == pytest.approx(cohen_kappa_score(said, truth))
    assert ann["kappa_reference"]["value"] == pytest.approx(cohen_kappa_score(said, truth))
    assert ann["kappa_reference"]["low"] < ann["kappa_reference"]["value"]


def test_effectiveness_of_the_manual() -> None:
    # Manual: 42 of 50 parts right in every trial, 95 % limits 71 and 93 %.
    defective = np.arange(50) < 16
    rejected = np.repeat(defective[None, :, None].astype(float), 3, 2)
    rejected[0, :8, 1] = 0
    found = ag.attribute_study(rejected, defective, ["A"])["inspectors"][0]["effectiveness"]
    assert found["value"] == 0.84
    assert (round(found["low"], 2), round(found["high"], 2)) == (0.71, 0.93)


def test_a_part_that_lacks_a_look_is_not_counted_as_right() -> None:
    rejected, defective = aiag_like()
    rejected[1, 3, 1] = np.nan
    found = ag.attribute_study(rejected, defective, ["Ann", "Bo"])["inspectors"][1]
    assert (found["effectiveness"]["k"], found["effectiveness"]["n"]) == (19, 19)
    assert found["miss_rate"]["n"] == 14


def test_knapp_by_hand() -> None:
    # 2 people x 5 looks; shares of rejection 1.0, 0.7, 0.6, 0.3, 0.2, 0.
    counts = [10, 7, 6, 3, 2, 0]
    rejected = np.zeros((2, 6, 5))
    for part, count in enumerate(counts):
        rejected[:, part].reshape(-1)[:count] = 1
        flat = np.zeros(10)
        flat[:count] = 1
        rejected[:, part] = flat.reshape(2, 5)
    defective = np.array([1, 1, 1, 0, 0, 0], bool)
    found = ag.knapp(rejected, defective, [1, 1, 0, 0, 0, 1])
    assert found["looks_per_part"] == 10
    assert found["parts"] == {"reject": 2, "grey": 2, "accept": 2}
    assert found["people"]["rze"] == pytest.approx(0.85)
    assert found["people"]["rag"] == pytest.approx(1.1 / 4)
    assert found["model"] == {"rze": 1.0, "rag": 0.25}
    assert found["efficiency"]["value"] == pytest.approx(1 / 0.85)
    assert "model" not in ag.knapp(rejected, defective)
