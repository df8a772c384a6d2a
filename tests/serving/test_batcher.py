import dataclasses
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import tiny_card
from tests.images import png
from twonines.errors import ImageTypeError, NotReadyError, OverloadedError, TwoninesError
from twonines.models import inspector
from twonines.models.card import ModelCard
from twonines.models.image import Decoded
from twonines.models.outputs import Outputs
from twonines.models.session import InspectionSession
from twonines.serving import batches
from twonines.serving import decoding as module
from twonines.serving.batcher import Answer, Batcher
from twonines.types import Image, Verdict


class Fake:
    """Waits until it is let go; fails on a batch that holds a picture of value 13."""

    certificate_fault: str | None = None

    def __init__(self) -> None:
        self.card: ModelCard = tiny_card()
        self.gate = threading.Event()
        self.batches: list[int] = []

    @property
    def input_size(self) -> tuple[int, int]:
        return (32, 32)

    def run(
        self, images: Image, references: Image | None = None, *, beside: bool = False
    ) -> Outputs:
        self.gate.wait(10)
        self.batches.append(len(images))
        values = images[:, 0, 0, 0]
        if (values == 13).any():
            raise RuntimeError("poison")
        score = (values / 255).astype(np.float32)
        return Outputs(
            score,
            np.stack([1 - score, score], 1),
            np.zeros((len(images), 4, 4), np.float32),
            np.zeros(len(images), np.float32),
        )


def test_poisoned_picture_fails_alone() -> None:
    fake = Fake()
    batcher = Batcher(fake)
    values = [0, 250, 13, 0, 250]
    futures = [batcher.submit(png(v)) for v in values]
    fake.gate.set()
    for value, future in zip(values, futures, strict=True):
        if value == 13:
            with pytest.raises(TwoninesError, match="could not be inspected"):
                future.result(10)
        else:
            expected = Verdict.NG if value else Verdict.OK
            assert future.result(10).inspection.verdict is expected
    batcher.close()


def test_full_queue_refuses_and_says_when() -> None:
    fake = Fake()
    batcher = Batcher(fake, queue_size=3)
    futures = [batcher.submit(png(0)) for _ in range(3)]
    with pytest.raises(OverloadedError, match="at most 3") as caught:
        batcher.submit(png(0))
    assert caught.value.retry_after_s > 0
    fake.gate.set()
    assert all(f.result(10).inspection.verdict is Verdict.OK for f in futures)
    batcher.close()
    assert batcher.in_flight == 0


def test_waiting_pictures_share_a_batch_and_cancelled_ones_are_left_out() -> None:
    fake = Fake()
    batcher = Batcher(fake, max_batch_size=4)
    first = batcher.submit(png(0))
    while not first.running():
        threading.Event().wait(0.01)
    others = [batcher.submit(png(0)) for _ in range(6)]
    while batcher.waiting < 6:
        threading.Event().wait(0.01)
    assert others[0].cancel()
    fake.gate.set()
    for future in others[1:]:
        future.result(10)
    batcher.close()
    assert fake.batches == [1, 4, 1]


def test_close_answers_what_was_taken_and_refuses_more(tiny_model: Path) -> None:
    batcher = Batcher(InspectionSession.load(tiny_model, execution_provider="cpu"))
    futures = [batcher.submit(png(0)) for _ in range(50)]
    batcher.close()
    assert all(f.result(0).inspection.verdict is Verdict.OK for f in futures)
    with pytest.raises(NotReadyError):
        batcher.submit(png(0))


def test_undecodable_is_the_callers_error(tiny_model: Path) -> None:
    batcher = Batcher(InspectionSession.load(tiny_model, execution_provider="cpu"))
    with pytest.raises(ImageTypeError):
        batcher.submit(b"nonsense").result(10)
    batcher.close()


def test_all_or_none_are_taken_and_the_wait_follows_the_measured_pace() -> None:
    fake = Fake()
    batcher = Batcher(fake, queue_size=3, max_batch_size=1)
    with pytest.raises(OverloadedError):
        batcher.submit_all([png(0)] * 4)
    assert batcher.in_flight == 0
    futures = batcher.submit_all([png(0)] * 3)
    batcher._admission._cost.note(1, 2.0)
    with pytest.raises(OverloadedError) as caught:
        batcher.submit_all([png(0)] * 2)
    assert caught.value.retry_after_s == pytest.approx(4.0)
    fake.gate.set()
    for future in futures:
        future.result(10)
    batcher.close()


def test_close_against_submit_leaves_nothing_unanswered(tiny_model: Path) -> None:
    session = InspectionSession.load(tiny_model, execution_provider="cpu")
    for _ in range(20):
        batcher = Batcher(session)
        taken: list[Future[Answer]] = []

        def feed(batcher: Batcher = batcher, taken: list[Future[Answer]] = taken) -> None:
            try:
                while True:
                    taken.append(batcher.submit(png(0)))
            except (NotReadyError, OverloadedError):
                pass

        feeder = threading.Thread(target=feed)
        feeder.start()
        batcher.close()
        feeder.join()
        assert all(future.done() for future in taken)
        assert batcher.in_flight == 0


def test_output_that_is_not_finite_is_an_error() -> None:
    class Broken(Fake):
        def run(self, images: Image, references: Image | None = None, **_: bool) -> Outputs:
            found = super().run(images)
            found.score[:] = np.nan
            return found

    fake = Broken()
    fake.gate.set()
    batcher = Batcher(fake)
    assert batcher.submit(png(0)).result(10).inspection.verdict is Verdict.ERROR
    batcher.close()


@pytest.mark.parametrize("change", [-1, 1])
@pytest.mark.parametrize("name", ["score", "class_scores", "defect_map", "novelty"])
def test_wrong_count_of_outputs_is_a_fault_not_a_verdict(name: str, change: int) -> None:
    class Miscounts(Fake):
        def run(self, images: Image, references: Image | None = None, **_: bool) -> Outputs:
            found = super().run(images)
            values = getattr(found, name)
            wrong = np.concatenate([values, values[:1]]) if change > 0 else values[:-1]
            return dataclasses.replace(found, **{name: wrong})

    fake = Miscounts()
    fake.gate.set()
    batcher = Batcher(fake)
    for _ in range(2):  # the session's thread must have survived the first
        with pytest.raises(TwoninesError, match="could not be inspected"):
            batcher.submit(png(0)).result(10)
    batcher.close()


def test_large_pictures_wait_for_each_other_and_small_ones_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate, lock, running, most = threading.Event(), threading.Lock(), 0, 0

    def slow(data: bytes, needed: object, *, max_pixels: int) -> Decoded:
        nonlocal running, most
        if data == b"small":
            return Decoded(np.zeros((1, 1, 3), np.uint8), (1, 1))
        with lock:
            running += 1
            most = max(most, running)
        gate.wait(10)
        with lock:
            running -= 1
        if data == b"broken":
            raise ImageTypeError("broken")
        return Decoded(np.zeros((2, 2, 3), np.uint8), (2, 2))

    monkeypatch.setattr(inspector, "decode_for", slow)
    monkeypatch.setattr(module, "count_pixels", lambda d: 1 if d == b"small" else 10_000_000)
    fake = Fake()
    fake.gate.set()
    batcher = Batcher(fake, decode_workers=4, max_decode_pixels=20_000_000)
    large = [batcher.submit(data) for data in [b"large", b"broken", *[b"large"] * 6]]
    small = [batcher.submit(b"small") for _ in range(8)]
    assert all(f.result(10).inspection.verdict is Verdict.OK for f in small)
    assert not any(f.done() for f in large)
    gate.set()
    with pytest.raises(ImageTypeError):
        large.pop(1).result(10)
    assert all(f.result(10).inspection.verdict is Verdict.OK for f in large)
    batcher.close()
    assert most == 2


def test_picture_above_the_whole_room_is_decoded_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "count_pixels", lambda _: 30_000_000)
    fake = Fake()
    fake.gate.set()
    batcher = Batcher(fake, decode_workers=4, max_decode_pixels=1)
    futures = [batcher.submit(png(0)) for _ in range(20)]
    batcher.close()
    assert all(f.result(0).inspection.verdict is Verdict.OK for f in futures)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture alone keeps the machine however slow the test's machine is."""
    monkeypatch.setattr(batches, "_ALONE_S", 60.0)


class Lanes(Fake):
    """Notes the inputs of each run and whether it is beside others, which wait for each other."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[tuple[int, bool]] = []
        self.both, self.begun, self.alone = (
            threading.Barrier(2), threading.Event(), threading.Event(),
        )  # fmt: skip

    def run(
        self, images: Image, references: Image | None = None, *, beside: bool = False
    ) -> Outputs:
        self.runs.append((len(images), beside))
        if beside:
            self.both.wait(10)  # broken, and so an error, where only one run is on its way
        else:
            self.begun.set()
            self.alone.wait(10)
        return super().run(images, references)


@pytest.mark.usefixtures("patient")
def test_streams_run_at_once_and_all_of_them_end() -> None:
    fake = Lanes()
    fake.gate.set()
    batcher = Batcher(fake, max_batch_size=4, streams=2)
    first = batcher.submit(png(250))
    assert fake.begun.wait(10)
    futures = batcher.submit_all([png(v) for v in (0, 250, 0, 250)])
    while batcher.waiting < 4:
        time.sleep(0.001)
    assert fake.runs == [(1, False)]  # it has the machine for itself
    fake.alone.set()
    verdicts = [future.result(20).inspection.verdict for future in (first, *futures)]
    assert verdicts == [Verdict.NG, *[Verdict.OK, Verdict.NG] * 2]
    assert fake.runs == [(1, False), (2, True), (2, True)]
    batcher.close()
    assert not any(stage._thread.is_alive() for stage in batcher._running)


@pytest.mark.usefixtures("patient")
def test_a_part_that_failed_runs_again_beside_others() -> None:
    fake = Lanes()
    fake.both = threading.Barrier(1)
    batcher = Batcher(fake, max_batch_size=4, streams=2)
    first = batcher.submit(png(0))  # keeps the lanes until the gate opens
    assert fake.begun.wait(10)
    futures = batcher.submit_all([png(v) for v in (0, 13, 0, 13)])
    while batcher.waiting < 4:
        time.sleep(0.001)
    fake.alone.set()
    fake.gate.set()
    assert first.result(20).inspection.verdict is Verdict.OK
    for index, future in enumerate(futures):
        if index % 2:
            with pytest.raises(TwoninesError, match="could not be inspected"):
                future.result(20)
        else:
            assert future.result(20).inspection.verdict is Verdict.OK
    assert all(beside for _, beside in fake.runs[1:])
    batcher.close()


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("streams", [1, 2])
def test_cancelled_pictures_leave_the_queue(streams: int) -> None:
    fake = Lanes()
    fake.gate.set()
    batcher = Batcher(fake, max_batch_size=4, streams=streams)
    first = batcher.submit(png(0))
    assert fake.begun.wait(10)
    gone = batcher.submit_all([png(0)] * 3)
    while batcher.waiting < 3:
        time.sleep(0.001)
    assert all(future.cancel() for future in gone)
    fake.alone.set()
    assert first.result(20).inspection.verdict is Verdict.OK
    limit = time.monotonic() + 10
    while batcher.waiting and time.monotonic() < limit:
        time.sleep(0.001)
    assert not batcher.waiting and fake.runs == [(1, False)]
    batcher.close()
