"""Sessions that fail or hang are replaced, deadlines cost no work, decisions fail alone."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
import pytest

from tests.conftest import tiny_card
from tests.images import png
from twonines.errors import DeadlineError, NotReadyError, TwoninesError
from twonines.models.inspector import Inspector
from twonines.models.outputs import Outputs
from twonines.serving import batches, renewal
from twonines.serving.batcher import Batcher
from twonines.serving.metrics import Metrics
from twonines.serving.work import Item
from twonines.types import Image, Inspection, Verdict


class Session:
    """Does what ``fault`` does before it inspects."""

    certificate_fault: str | None = None

    def __init__(self, fault: Callable[[Image], object] = lambda images: None) -> None:
        self.card = tiny_card()
        self.fault = fault
        self.runs: list[int] = []

    @property
    def input_size(self) -> tuple[int, int]:
        return (32, 32)

    def run(self, images: Image, references: Image | None = None, **_: bool) -> Outputs:
        self.runs.append(len(images))
        self.fault(images)
        score = (images[:, 0, 0, 0] / 255).astype(np.float32)
        maps = np.zeros((len(images), 4, 4), np.float32)
        return Outputs(score, np.stack([1 - score, score], 1), maps, np.zeros_like(score))


def fail(_: Image) -> None:
    raise RuntimeError("broken for good")


def test_session_that_fails_on_a_plain_picture_is_replaced_and_no_picture_lost() -> None:
    fresh = Session()
    batcher = Batcher(Session(fail), reload=lambda: fresh)
    futures = [batcher.submit(png(value)) for value in (0, 250, 0, 250)]
    verdicts = [future.result(10).inspection.verdict for future in futures]
    assert verdicts == [Verdict.OK, Verdict.NG] * 2
    assert batcher.is_ready
    batcher.close()


def test_poison_never_costs_a_sound_session() -> None:
    def poison(images: Image) -> None:
        if (images == 13).any():
            raise RuntimeError("poison")

    loads: list[int] = []

    def reload() -> Session:
        loads.append(1)
        return Session()

    batcher = Batcher(Session(poison), reload=reload)
    futures = [batcher.submit(png(13 if index % 10 == 0 else 0)) for index in range(40)]
    for index, future in enumerate(futures):
        if index % 10 == 0:
            with pytest.raises(TwoninesError, match="could not be inspected"):
                future.result(10)
        else:
            assert future.result(10).inspection.verdict is Verdict.OK
    batcher.close()
    assert not loads


def test_hung_session_is_left_behind_and_not_ready_meanwhile() -> None:
    stuck, loading = threading.Event(), threading.Event()

    def reload() -> Session:
        assert loading.wait(10)
        return Session()

    batcher = Batcher(
        Session(lambda _: stuck.wait(20)), reload=reload, session_timeout_s=0.5, max_batch_size=4
    )
    futures = [batcher.submit(png(0)) for _ in range(3)]
    while batcher.is_ready:
        time.sleep(0.005)
    with pytest.raises(NotReadyError, match="being replaced"):
        batcher.submit(png(0))
    loading.set()
    outcomes = [future.exception(10) for future in futures]
    assert sum(outcome is not None for outcome in outcomes) <= 1  # one that hung alone
    assert batcher.is_ready and not batcher.is_broken
    stuck.set()
    batcher.close()


def test_session_that_hangs_again_and_again_is_broken_and_everything_answered() -> None:
    stuck = threading.Event()
    loads: list[int] = []

    def reload() -> Session:
        loads.append(1)
        return Session(lambda _: stuck.wait(20))

    batcher = Batcher(reload(), reload=reload, session_timeout_s=0.02, max_batch_size=1)
    futures = [batcher.submit(png(0)) for _ in range(5)]
    assert all(isinstance(future.exception(10), TwoninesError) for future in futures)
    assert batcher.is_broken
    assert len(loads) == renewal.MAX_HANGS
    with pytest.raises(NotReadyError):
        batcher.submit(png(0))
    stuck.set()
    batcher.close()


def test_session_that_two_runs_find_broken_is_replaced_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The slow run fails after the other has had the session replaced."""
    monkeypatch.setattr(batches, "_ALONE_S", 0.01)
    slow, renewed, loads = threading.Event(), threading.Event(), list[int]()

    def stale(images: Image) -> None:
        if (images == 250).any():
            slow.set()
            assert renewed.wait(10)
        else:
            assert slow.wait(10)
        raise RuntimeError("broken for good")

    def reload() -> Session:
        loads.append(1)
        renewed.set()
        return Session()

    old = Session(stale)
    batcher = Batcher(old, reload=reload, streams=2, max_batch_size=1)
    futures = batcher.submit_all([png(0), png(250)])
    assert [f.result(20).inspection.verdict for f in futures] == [Verdict.OK, Verdict.NG]
    assert loads == [1] and batcher.is_ready
    assert len(old.runs) == 3  # two pictures and one plain one: what was replaced is not probed
    batcher.close()


def test_picture_that_hung_with_a_session_that_was_replaced_meanwhile_runs_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two pictures hang on one session; the second to be found so has not hung the fresh one."""
    monkeypatch.setattr(batches, "_ALONE_S", 0.01)
    stuck, loads = threading.Event(), list[int]()

    def reload() -> Session:
        loads.append(1)
        return Session()

    old = Session(lambda _: stuck.wait(20))
    batcher = Batcher(old, reload=reload, streams=2, max_batch_size=1, session_timeout_s=1.0)
    futures = batcher.submit_all([png(0), png(250)])
    while len(old.runs) < 2:
        time.sleep(0.005)
    outcomes = [future.exception(20) for future in futures]
    assert sorted(outcome is None for outcome in outcomes) == [False, True]
    assert loads == [1] and batcher.is_ready
    stuck.set()
    batcher.close()


def test_what_is_broken_for_good_is_not_loaded_again() -> None:
    loads: list[int] = []

    def reload() -> Session:
        loads.append(1)
        return Session()

    shared = renewal.SharedSession(Session(), reload, Metrics())
    seen = shared.inspector
    shared._break()
    shared.renew_failed(seen)
    assert shared.renew_hung(seen) == "broken"
    assert not loads and not shared.ready and not shared.can_renew


def test_picture_that_hangs_alone_does_not_keep_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches, "_ALONE_S", 0.05)
    begun, stuck = threading.Event(), threading.Event()

    def hang(images: Image) -> None:
        if (images == 13).any():
            begun.set()
            stuck.wait(20)

    batcher = Batcher(Session(hang), streams=2)
    hung = batcher.submit(png(13))
    assert begun.wait(10)
    assert batcher.submit(png(0)).result(10).inspection.verdict is Verdict.OK
    assert not hung.done()
    stuck.set()
    hung.result(10)
    batcher.close()


def test_what_is_late_is_neither_decoded_nor_run() -> None:
    gate = threading.Event()
    session = Session(lambda _: gate.wait(10))
    batcher = Batcher(session, max_batch_size=1, decode_workers=1)
    first = batcher.submit(png(0))
    while not first.running():
        time.sleep(0.005)
    (late,) = batcher.submit_all([png(0)], deadline=time.perf_counter() + 0.4)
    with pytest.raises(DeadlineError):
        batcher.submit_all([png(0)], deadline=time.perf_counter() - 1)
    dead = Item(b"never looked at", None, Future(), 0.0, deadline=time.perf_counter())
    batcher._decoding.put(dead)
    assert isinstance(dead.future.exception(10), DeadlineError)
    time.sleep(0.45)
    gate.set()
    assert isinstance(late.exception(10), DeadlineError)
    assert first.result(10).inspection.verdict is Verdict.OK
    batcher.close()
    assert session.runs == [1]


def test_cancelled_pictures_leave_no_bytes_and_no_count() -> None:
    gate = threading.Event()
    batcher = Batcher(Session(lambda _: gate.wait(10)), max_batch_size=1)
    first = batcher.submit(png(0))
    while not first.running():
        time.sleep(0.005)
    others = [batcher.submit(png(0)) for _ in range(20)]
    while batcher.waiting < 20:
        time.sleep(0.005)
    assert all(future.cancel() for future in others)
    assert batcher.in_flight == 1
    assert all(item.picture is None for item in batcher._queue._waiting)
    assert batcher._ready == 1
    gate.set()
    batcher.close()
    assert batcher._ready == 0


def test_decision_that_fails_costs_only_the_culprit(monkeypatch: pytest.MonkeyPatch) -> None:
    finish = Inspector.finish

    def faulty(self: Inspector, outputs: Outputs, parts: object) -> list[Inspection | None]:
        if (outputs.score > 0.5).any():
            raise ValueError("no verdict")
        return finish(self, outputs, parts)  # type: ignore[arg-type]

    monkeypatch.setattr(Inspector, "finish", faulty)
    gate = threading.Event()
    batcher = Batcher(Session(lambda _: gate.wait(10)))
    futures = [batcher.submit(png(value)) for value in (0, 250, 0, 0)]
    gate.set()
    outcomes = [future.exception(10) for future in futures]
    batcher.close()
    assert [outcome is None for outcome in outcomes] == [True, False, True, True]
