import json
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image as PILImage

from tests.certified import certify_file
from tests.conftest import tiny_card, write_tiny_model
from tests.images import png
from twonines.benchmarks.certify import Options, certify, parse_rule, refusal, unit_names
from twonines.benchmarks.drift import first_alarms
from twonines.benchmarks.recertify import recertify
from twonines.datasets.record import Dataset, DatasetCard, Record
from twonines.errors import DatasetError, SettingsError
from twonines.models.card import ClassRule
from twonines.models.certificate import WatchCut
from twonines.models.costs import Costs
from twonines.models.session import InspectionSession
from twonines.models.withdrawal import find_withdrawal, keep_withdrawal, withdrawal_path
from twonines.serving.app import create_app
from twonines.serving.score import score_paths
from twonines.serving.watch import open_watch
from twonines.settings import ServeSettings
from twonines.types import Inspection, Verdict


def make_set(root: Path, groups: bool = False, bad: int = 60) -> Dataset:
    """Grey pictures: good ones from 60 to 110, defective ones from 120 to 200."""
    rng = np.random.default_rng(0)
    records = []
    for index in range(bad + 40):
        defective = index < bad
        level = rng.integers(120, 201) if defective else rng.integers(60, 111)
        path = root / f"{index:03}.png"
        PILImage.fromarray(np.full((32, 32, 3), level, np.uint8)).save(path)
        group = f"g{index // 2}" if groups else None
        records.append(Record(path, "scratch" if defective else "good", group=group))
    card = DatasetCard("generated", "", "CC0", "", "none", "")
    return Dataset(card, root, tuple(records))


def wish(**changes: object) -> Options:
    values: dict[str, object] = {"alpha": 0.05, "independent": True, **changes}
    return Options(**values)  # type: ignore[arg-type]


def test_certify_writes_a_model_that_holds_its_word(tiny_model: Path, tmp_path: Path) -> None:
    dataset = make_set(tmp_path)
    done = certify(tiny_model, dataset, tmp_path / "c.onnx", wish())
    found = done.certificate
    assert (found.n_defective, found.n_good, found.escapes) == (60, 40, 0)
    assert found.escape_bound == pytest.approx(1 - 0.05 ** (1 / 60)) and found.escape_bound <= 0.05
    session = InspectionSession.load(tmp_path / "c.onnx")
    assert session.certificate_fault is None
    assert session.card == done.card and session.card.certificate == found
    levels = sorted(int(np.asarray(PILImage.open(r.path))[0, 0, 0]) for r in dataset.records[:60])
    score = 1 / (1 + np.exp(-20 * (levels[0] / 255 - 0.5)))
    assert found.accept_below == pytest.approx(score, abs=1e-5)
    assert session.card.policy.threshold == 0.5 and found.overkill and found.overkill.count == 0
    assert len(found.watch) > 0


def test_too_few_parts_are_refused_with_what_is_missing(tiny_model: Path, tmp_path: Path) -> None:
    dataset = make_set(tmp_path)
    with pytest.raises(DatasetError, match="at least 299 defective parts .* got 60: 239 more"):
        certify(tiny_model, dataset, tmp_path / "c.onnx", wish(alpha=0.01))
    with pytest.raises(DatasetError, match="at least 59 groups .* got 30: 29 more"):
        certify(tiny_model, make_set(tmp_path, groups=True), tmp_path / "c.onnx", wish())
    assert not (tmp_path / "c.onnx").exists()
    assert "0 can show 1 at best" in refusal(0, wish(), "picture")


def test_groups_are_certified_by_their_worst_picture(tiny_model: Path, tmp_path: Path) -> None:
    dataset = make_set(tmp_path, groups=True, bad=120)
    found = certify(tiny_model, dataset, tmp_path / "c.onnx", wish()).certificate
    assert (found.unit, found.n_defective, found.defective_pictures) == ("group", 60, 120)
    levels = [int(np.asarray(PILImage.open(r.path))[0, 0, 0]) for r in dataset.records[:120]]
    score = 1 / (1 + np.exp(-20 * (min(levels) / 255 - 0.5)))
    assert found.accept_below == pytest.approx(score, abs=1e-5)
    unit, names = unit_names(dataset.records)
    assert unit == "group" and len(set(names)) == 80


def test_costs_rules_and_area_go_on_the_card(tiny_model: Path, tmp_path: Path) -> None:
    options = wish(
        costs=Costs(100, 10, 1, 0.1),
        rules={"scratch": ClassRule(review_from=0.0)},
        min_defect_area=0.01,
    )
    policy = certify(tiny_model, make_set(tmp_path), tmp_path / "c.onnx", options).card.policy
    assert policy.accepts_below <= policy.threshold != 0.5
    assert policy.class_rules["scratch"].review_from == 0 and policy.min_defect_area == 0.01


def test_refusals(tiny_model: Path, tmp_path: Path) -> None:
    dataset = make_set(tmp_path)
    with pytest.raises(SettingsError, match=r"alpha: must lie in \(0, 1\), got 2"):
        certify(tiny_model, dataset, tmp_path / "c.onnx", wish(alpha=2))
    with pytest.raises(SettingsError, match="out: must be another file"):
        certify(tiny_model, dataset, tiny_model, wish())
    with pytest.raises(DatasetError, match="digest"):
        certify(tiny_model, dataset, tmp_path / "c.onnx", wish(independent=False))
    other = write_tiny_model(tmp_path / "f.onnx", tiny_card(recipe="finetune"))
    with pytest.raises(DatasetError, match="'finetune' may have been chosen by its calibration"):
        certify(other, dataset, tmp_path / "c.onnx", wish(independent=False))
    with pytest.raises(SettingsError, match="typing model"):
        kinds = write_tiny_model(tmp_path / "k.onnx", tiny_card(classes=("a", "b")))
        certify(kinds, dataset, tmp_path / "c.onnx", wish())


def test_out_must_be_writable_and_no_other_file_is_touched(
    tiny_model: Path, tmp_path: Path
) -> None:
    dataset = make_set(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    for out in (tmp_path / "folder", tmp_path / "file" / "c.onnx"):
        with pytest.raises(SettingsError, match="out: "):
            certify(tiny_model, dataset, out, wish())
    (tmp_path / "c.tmp").write_text("precious")
    certify(tiny_model, dataset, tmp_path / "c.onnx", wish())
    assert (tmp_path / "c.tmp").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.glob("*.tmp")) == ["c.tmp"]


def test_rules_are_read() -> None:
    assert parse_rule("crack:review=0.05,severity=10") == (
        "crack", ClassRule(review_from=0.05, severity=10),
    )  # fmt: skip
    for text in ("crack", "crack:x=1", "crack:review=2", ":review=0.1", "good:review=0.1"):
        with pytest.raises(SettingsError, match="rule: must"):
            parse_rule(text)


def test_the_service_names_its_certificate_and_withdraws_it(
    tiny_model: Path, tmp_path: Path
) -> None:
    cut = WatchCut(feature="novelty", low=0.3, probability=0.05)
    found = certify_file(tiny_model, tiny_card(), tmp_path / "c.onnx", (cut,))
    settings = ServeSettings(model=tmp_path / "c.onnx", execution_provider="cpu")
    with TestClient(create_app(settings)) as client:

        def ask(level: int) -> dict[str, object]:
            headers = {"Content-Type": "image/png"}
            answered = client.post("/v1/inspect", content=png(level), headers=headers)
            result: dict[str, object] = answered.json()["results"][0]
            return result

        answer = ask(100)
        assert (answer["verdict"], answer["certificate"]) == ("OK", found.digest)
        assert (
            'twonines_certificate_valid{name="tiny",version="1"} 1.0' in client.get("/metrics").text
        )
        state = client.get("/v1/models").json()["models"][0]["certificate"]
        assert state["valid"] and state["digest"] == found.digest and state["pictures_watched"] == 1
        for _ in range(30):
            answer = ask(0)
        assert (answer["verdict"], answer["certificate"]) == ("REVIEW", None)
        answer = ask(100)
        assert answer["verdict"] == "REVIEW" and "withdrawn" in str(answer["reasons"])
        assert ask(255)["verdict"] == "NG"
        text = client.get("/metrics").text
        assert 'twonines_certificate_valid{name="tiny",version="1"} 0.0' in text
        state = client.get("/v1/models").json()["models"][0]["certificate"]
        assert (
            not state["valid"] and "novelty" in state["fault"] and state["drift_evidence"] >= 2000
        )

    # A new start, and scoring, still know that it was withdrawn.
    with TestClient(create_app(settings)) as client:
        headers = {"Content-Type": "image/png"}
        answer = client.post("/v1/inspect", content=png(100), headers=headers).json()["results"][0]
        assert (answer["verdict"], answer["certificate"]) == ("REVIEW", None)
        assert "novelty" in str(answer["reasons"])
        assert (
            'twonines_certificate_valid{name="tiny",version="1"} 0.0' in client.get("/metrics").text
        )
        state = client.get("/v1/models").json()["models"][0]["certificate"]
        assert not state["valid"] and "withdrawn" in state["fault"]
    (tmp_path / "a.png").write_bytes(png(100))
    score_paths(tmp_path / "c.onnx", [str(tmp_path / "a.png")], tmp_path / "t.jsonl")
    assert json.loads((tmp_path / "t.jsonl").read_text())["verdict"] == "REVIEW"

    # Certifying again makes another certificate, which was never withdrawn.
    again = tiny_card(version="2")
    cuts = (cut, cut)
    assert certify_file(tiny_model, again, tmp_path / "c.onnx", cuts).digest != found.digest
    with TestClient(create_app(settings)) as client:
        assert (
            'twonines_certificate_valid{name="tiny",version="2"} 1.0' in client.get("/metrics").text
        )


def test_a_withdrawal_goes_to_the_folder_that_was_given(tiny_model: Path, tmp_path: Path) -> None:
    cut = WatchCut(feature="novelty", low=0.3, probability=0.05)
    found = certify_file(tiny_model, tiny_card(), tmp_path / "c.onnx", (cut,))
    folder = tmp_path / "state"
    settings = ServeSettings(
        model=tmp_path / "c.onnx", execution_provider="cpu", watch_state=folder
    )
    session = InspectionSession.load(tmp_path / "c.onnx", execution_provider="cpu")
    with pytest.raises(
        SettingsError, match="watch_state: must be a folder that can be written, got"
    ):
        open_watch(settings, session, tmp_path / "c.onnx")
    folder.mkdir()
    watch = open_watch(settings, session, tmp_path / "c.onnx")
    assert watch is not None
    shown = Inspection(Verdict.OK, score=0.1, novelty=0.9)
    for _ in range(30):
        watch.observe(shown)
    assert [path.name for path in folder.iterdir()] == [f"withdrawn-{found.digest}.json"]
    session.certificate_fault = None
    assert open_watch(settings, session, tmp_path / "c.onnx") is None and "novelty" in str(
        session.certificate_fault
    )


def test_a_withdrawal_that_cannot_be_kept_still_withdraws(
    tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cut = WatchCut(feature="novelty", low=0.3, probability=0.05)
    certify_file(tiny_model, tiny_card(), tmp_path / "c.onnx", (cut,))
    folder = tmp_path / "state"
    folder.mkdir()
    settings = ServeSettings(
        model=tmp_path / "c.onnx", execution_provider="cpu", watch_state=folder
    )
    session = InspectionSession.load(tmp_path / "c.onnx", execution_provider="cpu")
    watch = open_watch(settings, session, tmp_path / "c.onnx")
    folder.rmdir()
    assert watch is not None
    for _ in range(30):
        watch.observe(Inspection(Verdict.OK, score=0.1, novelty=0.9))
    assert watch.fault and "must be writable" in caplog.text


def test_a_torn_withdrawal_still_withdraws(tmp_path: Path) -> None:
    assert find_withdrawal(tmp_path, "ab") is None
    keep_withdrawal(tmp_path, "ab", "withdrawn: x")
    assert "withdrawn: x" in str(find_withdrawal(tmp_path, "ab"))
    assert find_withdrawal(tmp_path, "cd") is None
    for torn in ("", '{"fault": "wi', "[]", "3"):
        withdrawal_path(tmp_path, "ab").write_text(torn)
        assert "withdrawn before" in str(find_withdrawal(tmp_path, "ab"))


def test_a_void_certificate_is_said_by_service_and_table(tiny_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "c.onnx"
    card = tiny_card()
    certify_file(tiny_model, card, model)
    data = model.read_bytes()
    # the policy was edited after certification
    assert data.count(b'"threshold": 0.5') == 1
    model.write_bytes(data.replace(b'"threshold": 0.5', b'"threshold": 0.7'))
    (tmp_path / "a.png").write_bytes(png(100))
    score_paths(model, [str(tmp_path / "a.png")], tmp_path / "t.jsonl", execution_provider="cpu")
    row = json.loads((tmp_path / "t.jsonl").read_text())
    assert row["verdict"] == "REVIEW" and row["certificate"] == "" and "policy" in row["reasons"]
    settings = ServeSettings(model=model, execution_provider="cpu")
    with TestClient(create_app(settings)) as client:
        assert (
            'twonines_certificate_valid{name="tiny",version="1"} 0.0' in client.get("/metrics").text
        )
        state = client.get("/v1/models").json()["models"][0]["certificate"]
        assert not state["valid"] and "policy changed" in state["fault"]


def test_recertify_refuses_and_counts() -> None:
    rng = np.random.default_rng(0)
    bad, good = rng.uniform(0.1, 1, 200), rng.uniform(0, 0.3, 100)
    assert recertify(bad, good, 0.01, 0.05, share=0.5, rounds=200, seed=0)["refused"]
    found = recertify(bad, good, 0.05, 0.05, share=0.5, rounds=200, seed=0)
    assert found["exceeded_population"]["value"] <= 0.11 and found["certified_on"] == 100
    assert 0 < found["review_of_good"] < 1 and found["needed"] == 59


def test_alarms_are_placed_after_the_change() -> None:
    cuts = [WatchCut(feature="novelty", low=1.0, probability=0.05)]
    calm, wild = np.zeros((5, 1), bool), np.ones((5, 1), bool)
    settings = {"change": 50, "length": 80, "streams": 4, "seed": 0}
    found = first_alarms(cuts, calm, wild, **settings)
    assert ((found > 50) & (found < 65)).all()
    assert not first_alarms(cuts, calm, calm, **settings).any()
