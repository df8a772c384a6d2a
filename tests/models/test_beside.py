"""A model that is open for several runs at once, beside the one on all cores."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import write_tiny_model
from twonines.errors import ModelFileError
from twonines.models import providers
from twonines.models import session as module
from twonines.models.providers import make_runtime
from twonines.models.session import InspectionSession


@pytest.mark.parametrize(("cores", "streams", "threads"), [(1, 1, [1]), (5, 2, [5, 2])])
def test_several_runs_at_once_share_the_cores(
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    cores: int,
    streams: int,
    threads: list[int],
) -> None:
    opened: list[int] = []
    open_one = providers.open_runtime

    def noting(model: Any, variant: Any, origin: str | None = None) -> Any:
        opened.append(variant.threads)
        return open_one(model, variant, origin)

    monkeypatch.setattr(module, "available_threads", lambda: cores)
    for place in (module, providers):
        monkeypatch.setattr(place, "open_runtime", noting)
    session = InspectionSession.load(tiny_model, execution_provider="cpu", beside=True)
    assert session.streams == streams and opened == threads
    if streams > 1:  # each brings a thread of its own to the pool that they share
        assert session._beside.get_session_options().intra_op_num_threads == cores // 2 * 2 - 1
    images = np.arange(3 * 32 * 32 * 3, dtype=np.uint8).reshape(3, 32, 32, 3)
    alone, beside = (session.run(images, beside=flag) for flag in (False, True))
    assert all(map(np.array_equal, dataclasses.astuple(alone), dataclasses.astuple(beside)))
    # Who says how many threads, or does not serve, gets one run at a time.
    plain = InspectionSession.load(tiny_model, execution_provider="cpu")
    one = InspectionSession.load(tiny_model, execution_provider="cpu", threads=4, beside=True)
    assert plain.streams == one.streams == 1


@pytest.mark.parametrize("fault", ["cannot be opened", "answers otherwise"])
def test_model_that_cannot_run_several_at_once_runs_one_at_a_time(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, fault: str,
) -> None:  # fmt: skip
    card = InspectionSession.load(tiny_model, execution_provider="cpu").card
    other = write_tiny_model(tmp_path / "other.onnx", card, gain=-20)

    def second(model: Any, variant: Any, origin: str | None = None) -> Any:
        if fault == "cannot be opened":
            raise ModelFileError(fault)
        return make_runtime(other, "cpu", 1)

    monkeypatch.setattr(module, "available_threads", lambda: 2)
    monkeypatch.setattr(module, "open_runtime", second)
    session = InspectionSession.load(tiny_model, execution_provider="cpu", beside=True)
    assert session.streams == 1 and "one batch at a time" in caplog.text
    one, two = (
        session.run(np.full((1, 32, 32, 3), 9, np.uint8), beside=flag) for flag in (False, True)
    )
    assert np.array_equal(one.score, two.score)
