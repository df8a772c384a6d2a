import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.certified import make_certificate
from tests.conftest import tiny_card, write_tiny_model
from twonines.errors import SettingsError
from twonines.models import session as module
from twonines.models.providers import Variant, open_runtime, precisions_of, why_missing
from twonines.models.session import InspectionSession
from twonines.models.tuning import (
    Tuned,
    TunedChoice,
    find_tuned,
    this_machine,
    tuned_path,
    write_tuned,
)


def tuned_for(model: Path, **changes: Any) -> Tuned:
    choice = TunedChoice(
        variant=Variant(threads=1, streams=2), max_batch_size=8, per_second=10, low=9, high=11,
        run_ms=100, score_shift=0,
    )  # fmt: skip
    digest = InspectionSession.load(model, execution_provider="cpu").digest
    values: dict[str, Any] = {
        "model": digest, "machine": this_machine(), "latency_ms": 50, "latency_met": True,
        "pictures": 0, "serve": choice, "batch": choice.model_copy(update={"max_batch_size": 4}),
        "created": "2026-01-01",
    }  # fmt: skip
    return Tuned(**{**values, **changes})


def test_a_choice_for_this_machine_and_model_is_followed(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model.onnx", tiny_card())
    plain = InspectionSession.load(model)
    assert plain.tuned is None
    assert write_tuned(model, tuned_for(model)) == tmp_path / "model.tuned.json"
    session = InspectionSession.load(model)
    assert session.tuned is not None and session.tuned.max_batch_size == 8
    assert session.tuned.variant.streams == 2 and "as tuned on 2026-01-01" in session.choice
    assert session.streams == 1  # one run on both cores; several at once are opened for a service
    served = InspectionSession.load(model, beside=True)
    assert served.streams == 2 and served.tuned is not None
    opened = [
        (one.threads, one.streams) for one in (served.tuned.variant, served.tuned.variant.alone)
    ]
    assert opened == [(1, 2), (2, 1)]
    batch = InspectionSession.load(model, purpose="batch").tuned
    assert batch is not None and batch.max_batch_size == 4
    images = np.zeros((2, 32, 32, 3), np.uint8)
    for beside in (False, True):
        assert np.array_equal(served.run(images, beside=beside).score, plain.run(images).score)
    # Whoever asks for a provider or threads gets those.
    assert InspectionSession.load(model, execution_provider="cpu").tuned is None
    assert InspectionSession.load(model, threads=1).tuned is None
    assert InspectionSession.load(model, purpose=None).tuned is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: "", "damaged"),
        (lambda text: text[:50], "damaged"),
        (lambda text: "[1]", "damaged"),
        (lambda text: " " * (2 << 20), "damaged"),
        (lambda text: text.replace('"threads": 1', '"threads": 0'), "damaged"),
        (lambda text: text.replace('"cores"', '"kerne"'), "damaged"),
        (lambda text: json.dumps({**json.loads(text), "model": "0" * 64}), "another model file"),
        (lambda text: text.replace(this_machine().flags, "0" * 64), "another machine"),
        (lambda text: text.replace('"onnxruntime": "', '"onnxruntime": "0.'), "another machine"),
        (lambda text: text.replace('"cpu",', '"tensorrt",', 1), "not used"),
        (lambda text: text.replace('"float32",', '"int8",', 1), "not used"),
    ],
)
def test_what_does_not_hold_is_ignored_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: Any, said: str
) -> None:
    model = write_tiny_model(tmp_path / "model.onnx", tiny_card())
    path = write_tuned(model, tuned_for(model))
    before = path.read_text()
    path.write_text(change(before))
    assert path.read_text() != before
    session = InspectionSession.load(model)
    assert session.tuned is None
    warnings = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1 and said in warnings[0]
    assert session.run(np.zeros((1, 32, 32, 3), np.uint8)).score[0] < 0.01


def test_a_tuned_runtime_that_answers_otherwise_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = write_tiny_model(tmp_path / "model.onnx", tiny_card())
    write_tuned(model, tuned_for(model))
    monkeypatch.setattr(module, "_changes", lambda *_: "verdicts of this model, NG to OK")
    assert InspectionSession.load(model).tuned is None
    assert "changes verdicts of this model" in caplog.text


def test_another_precision_voids_a_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = tiny_card()
    model = write_tiny_model(tmp_path / "model.onnx", card)
    from twonines.models.image import preprocessing_digest
    from twonines.models.onnx_file import graph_digest

    certificate = make_certificate(
        card,
        graph=graph_digest(model.read_bytes()),
        preprocessing=preprocessing_digest((32, 32)),
    )
    write_tiny_model(model, card.model_copy(update={"certificate": certificate}))
    assert InspectionSession.load(model, execution_provider="cpu").certificate_fault is None
    tuned = tuned_for(model)
    choice = tuned.serve.model_copy(update={"variant": Variant(threads=1, precision="fp16")})
    write_tuned(model, tuned.model_copy(update={"serve": choice}))
    session = InspectionSession.load(model)
    assert session.precision == "fp16" and session.tuned is not None
    assert "made in float32, the model runs in fp16" in str(session.certificate_fault)


def test_without_a_file_one_line_says_that_tuning_helps(
    tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert not tuned_path(tiny_model).exists()
    with caplog.at_level(logging.INFO, "twonines"):
        InspectionSession.load(tiny_model)
    assert caplog.text.count("twonines tune") == 1


def test_a_provider_that_is_not_here_is_named(tiny_model: Path) -> None:
    for provider in ("cuda", "tensorrt"):
        if why_missing(provider):
            with pytest.raises(SettingsError, match=f"{provider}' cannot be used, .*onnxruntime"):
                open_runtime(tiny_model, Variant(execution_provider=provider, threads=1))
        assert precisions_of(provider)[0] == "float32"
    assert why_missing("cpu") == "" and "int8" in precisions_of("cpu")


def test_what_is_damaged_in_the_file_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = write_tiny_model(tmp_path / "model.onnx", tiny_card())
    write_tuned(model, tuned_for(model))
    told = json.loads(tuned_path(model).read_text())
    told["serve"]["max_batch_size"] = "many"
    tuned_path(model).write_text(json.dumps(told))
    assert find_tuned(model, told["model"]) is None
    assert "serve.max_batch_size: Input should be a valid integer" in caplog.text
    tuned_path(model).write_text("{")
    assert find_tuned(model, told["model"]) is None
    assert "the whole: Invalid JSON" in caplog.text


def test_the_file_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_tiny_model(tmp_path / "model.onnx", tiny_card())
    first = tuned_for(model)
    write_tuned(model, first)
    assert Tuned.model_validate_json(tuned_path(model).read_bytes()) == first

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("twonines.models.whole.os.replace", full)
    with pytest.raises(Exception, match="must be writable .No space"):
        write_tuned(model, first)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "model.tuned.json"]
