import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.test_bench import dataset as dataset
from tests.benchmarks.test_bench import make_model
from twonines.benchmarks import review
from twonines.benchmarks.bench import run_bench
from twonines.benchmarks.evaluate import Judged
from twonines.benchmarks.review import Answers, People
from twonines.datasets.record import Dataset, Record
from twonines.errors import InputError, SettingsError
from twonines.types import Inspection, Verdict


def answers(defective: list[int], rejected: list[int], sure: list[float]) -> Answers:
    return Answers(np.array(defective, bool), np.array(rejected, bool), np.array(sure))


def judged(*rows: tuple[str, Verdict, float | None]) -> Judged:
    records = tuple(Record(Path(f"{i}.png"), name) for i, (name, _, _) in enumerate(rows))
    said = tuple(Inspection(verdict, score=score) for _, verdict, score in rows)
    return Judged(records, said, 1.0)


def test_band_is_the_largest_that_is_right_often_enough() -> None:
    # Right, right, wrong, right, right by falling sureness: 2 of 2, 2 of 3, 3 of 4, 4 of 5.
    made = answers([1, 0, 1, 0, 0], [1, 0, 0, 0, 0], [0.9, 0.8, 0.7, 0.6, 0.5])
    assert review.find_band(made, 1.0) == 0.8
    assert review.find_band(made, 0.8) == 0.5
    assert review.find_band(made, 0.75) == 0.5
    assert review.find_band(made, 0.81) == 0.8
    assert review.automatic_share(made, 0.8)["share"]["k"] == 2


def test_equal_sureness_goes_the_same_way() -> None:
    made = answers([1, 1], [1, 0], [0.9, 0.9])
    assert math.isinf(review.find_band(made, 1.0))
    assert review.find_band(made, 0.5) == 0.9


def test_doubted_pictures_are_never_automatic() -> None:
    made = answers([0, 0, 0], [0, 0, 0], [0.9, 0.0, 0.0])
    band = review.find_band(made, 0.5)
    assert band == 0.9
    assert review.automatic_share(made, band)["share"]["k"] == 1


def test_nothing_is_automatic_where_the_model_is_always_wrong() -> None:
    made = answers([1, 1], [0, 0], [0.9, 0.8])
    share = review.automatic_share(made, review.find_band(made))
    assert share["share"]["k"] == 0 and math.isnan(share["accuracy"]["value"])


def test_sureness_counts_from_the_threshold_and_doubt_is_none() -> None:
    made = Answers.of(
        judged(
            ("good", Verdict.OK, 0.0), ("good", Verdict.OK, 0.19), ("crack", Verdict.NG, 0.2),
            ("crack", Verdict.NG, 1.0), ("good", Verdict.REVIEW, 0.05),
            ("good", Verdict.ERROR, None), ("good", Verdict.NG, 0.1),
        ),
        0.2,
    )  # fmt: skip
    assert made.sure[0] == made.sure[3] == 1.0
    assert 0.5 <= made.sure[2] < made.sure[1] + 0.03 < 0.6
    assert made.sure[4] == made.sure[5] == 0.0
    assert made.rejected.tolist() == [False, False, True, True, False, True, True]  # a rule's NG


def test_expectation_with_people() -> None:
    made = answers([1, 1, 0, 0], [1, 0, 0, 0], [0.9, 0.1, 0.9, 0.1])
    automatic = made.sure >= 0.5
    found = review.with_people(made, automatic, People(0.2, 0.1))
    assert found["accuracy"]["value"] == pytest.approx(1 - (0.2 + 0.1) / 4)
    assert found["escape_rate"]["value"] == pytest.approx(0.1)
    assert found["overkill_rate"]["value"] == pytest.approx(0.05)
    assert found["review"]["k"] == 2
    # Two of four by hand: the interval must not be that of a figure without luck.
    assert found["accuracy"]["low"] < 0.8 < found["accuracy"]["high"]
    alone = review.with_people(made, np.ones(4, bool), People(0.2, 0.1))
    assert alone["accuracy"]["value"] == 0.75 and alone["escape_rate"]["value"] == 0.5


def test_interval_covers_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    people, inside = People(0.15, 0.15), 0
    for seed in range(60):
        defective = generator.random(150) < 0.5
        wrong = generator.random(150) < 0.1
        made = Answers(defective, defective ^ wrong, np.ones(150))
        automatic = generator.random(150) < 0.5
        found = review.with_people(made, automatic, people, seed=seed)["accuracy"]
        inside += found["low"] <= 1 - (0.1 + 0.15) / 2 <= found["high"]
    assert inside >= 52  # of 60; fewer would happen once in 500 times


def test_curve_sends_the_least_sure_first() -> None:
    made = answers([1] * 5 + [0] * 5, [0] + [1] * 4 + [0] * 5, [0.1] + [0.9] * 9)
    rows = review.curve(made, People(0.0, 0.0), shares=(0.0, 0.1))
    assert rows[0]["automatic_accuracy"]["k"] == 9 and rows[0]["automatic_escapes"]["k"] == 1
    assert rows[1]["automatic_accuracy"]["k"] == rows[1]["automatic_accuracy"]["n"] == 9
    assert rows[1]["automatic_escapes"]["k"] == 0
    assert rows[1]["with_people"]["value"] == 1.0


def test_a_defect_that_was_accepted_has_a_kind_all_the_same() -> None:
    scores = [
        {"good": 0.98, "crack": 0.012, "dent": 0.008}, {"good": 0.1, "crack": 0.1, "dent": 0.8},
        {"good": 0.2, "crack": 0.6, "dent": 0.2}, {"good": 1.0, "crack": 0.0, "dent": 0.0},
    ]  # fmt: skip
    names = ("crack", "dent", "dent", "good")
    records = tuple(Record(Path(f"{i}.png"), name) for i, name in enumerate(names))
    said = tuple(Inspection(Verdict.OK, score=0.1, class_scores=s) for s in scores)
    found = review.typing_share(Judged(records, said, 1.0), Judged(records, said, 1.0), target=1.0)
    assert found["band"] == pytest.approx(8 / 9)  # the dent; the error comes next
    assert found["share"]["k"] == 1 and found["share"]["n"] == 3
    assert found["accuracy"]["value"] == 1.0


def test_impossible_people() -> None:
    with pytest.raises(SettingsError, match="escape_rate: must lie in"):
        People(1.2, 0.1)


def test_report_says_the_claim_and_repeats_itself(dataset: Dataset, tmp_path: Path) -> None:
    model = make_model(tmp_path / "m.onnx", dataset)
    first = run_bench(model, dataset, tmp_path / "a", throughput=False, rounds=1)
    assert first["headline"]["claim"].startswith("From 90 % to 99 % of parts")
    assert first["headline"]["answer"] in ("met", "not met", "not shown by this much data")
    assert [c["name"] for c in first["claims"]] == ["accuracy", "with_review", "cell", "speed"]
    taken = tmp_path / "a" / "measured.json"
    run_bench(model, dataset, tmp_path / "b", measured=taken)
    pair = [(tmp_path / name / "report.json").read_bytes() for name in ("a", "b")]
    assert pair[0] == pair[1]
    page = (tmp_path / "a" / "report.html").read_text("utf-8")
    assert "the model has no certificate" in page.lower()


@pytest.mark.parametrize(
    ("text", "reason"),
    [("{", "measured.json of a report"), ("[]", "measured.json of a report"),
     ('{"model": "x", "data": "y", "figures": {}}', "parts lack")],
)  # fmt: skip
def test_measured_that_is_none_is_refused(
    dataset: Dataset, tmp_path: Path, text: str, reason: str
) -> None:
    model = make_model(tmp_path / "m.onnx", dataset)
    (tmp_path / "measured.json").write_text(text)
    with pytest.raises(InputError, match=reason):
        run_bench(model, dataset, tmp_path / "out", measured=tmp_path / "measured.json")


def test_measured_of_another_model_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    model = make_model(tmp_path / "m.onnx", dataset)
    run_bench(model, dataset, tmp_path / "a", throughput=False, rounds=1)
    path = tmp_path / "a" / "measured.json"
    taken = json.loads(path.read_text())
    path.write_text(json.dumps(taken | {"model": "0" * 64}))
    with pytest.raises(InputError, match="measured: .* must be of model"):
        run_bench(model, dataset, tmp_path / "b", measured=path)
