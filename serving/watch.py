"""The validity watch: withdraws a certificate when pictures are no longer those it was made for.

A certificate holds for parts and pictures like the calibration's. The watch bets against that.
For every rare event on the card (see :mod:`twonines.models.baseline`) with probability at most p,
a bettor stakes a share c of its money on the event at odds 1/p: the money is multiplied by
1 + c (1 - p) / p where the event comes and by 1 - c where it does not. While the bound holds,
whatever came before, no bettor gains on average: the money is a test supermartingale, and by
Ville's inequality it ever reaches a threshold T with a chance of at most 1 / T (Ramdas, Grünwald,
Vovk, Shafer, *Game-theoretic statistics and safe anytime-valid inference*, Statistical Science
2023).

A change may come late, and a bettor that had lost everything by then would be blind. So every
bettor begins anew with each picture n, with the share 1 / (n (n + 1)) of the money; the sum over
all beginnings is one recursion, and a late change costs only about 2 ln n in evidence.

False alarms: at most 1 / T for the bets and ``CALIBRATION_RISK`` for the bounds, together 1 in
1,000 for ever, not per picture; no asymptotics, no smoothing.

What it sees: other lighting, blur, a new product, a dirty lens, other cameras, scores that crowd in
the middle. What it cannot see, because no label is there: defects of a new kind that look like good
parts and keep novelty and scores as they were. A changed share of defective parts is not drift, and
raises no alarm. Only the repeated audit of accepted parts finds what the watch cannot.
"""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from twonines.errors import SettingsError
from twonines.models.certificate import WatchCut
from twonines.models.session import InspectionSession
from twonines.models.withdrawal import find_withdrawal, keep_withdrawal
from twonines.settings import ServeSettings
from twonines.types import Inspection

log = logging.getLogger(__name__)
Floats = npt.NDArray[np.float64]
THRESHOLD = 2000.0
_STAKES = np.array([0.1, 0.3, 0.9])


class Evidence:
    """The bettors' money over ``streams`` streams at once; the service has one.

    ``value`` (S,) is the evidence against "as in calibration", 1 where there is none.
    """

    def __init__(self, cuts: Sequence[WatchCut], streams: int = 1) -> None:
        """Start with all money unspent."""
        self.cuts = tuple(cuts)
        p = np.array([cut.probability for cut in cuts], np.float64)[:, None]
        self._win = 1 + _STAKES * (1 - p) / p  # (C, stakes)
        self._lose = np.broadcast_to(1 - _STAKES, self._win.shape)
        self._money = np.zeros((streams, *self._win.shape))
        self.count = 0
        self.value: Floats = np.ones(streams)

    def add(self, events: npt.NDArray[np.bool_]) -> Floats:
        """Take one picture of every stream; events (S, C) say which cuts it crossed."""
        self.count += 1
        start = 1 / (self.count * (self.count + 1))
        self._money = (self._money + start) * np.where(
            events[:, :, None], self._win, self._lose
        )  # (S, C, stakes)
        if self.cuts:
            self.value = self._money.mean((1, 2)) + 1 / (self.count + 1)
        return self.value

    def strongest(self, stream: int = 0) -> str:
        """The feature whose bettors hold most."""
        return self.cuts[int(self._money[stream].sum(1).argmax())].feature


def crossed(cuts: Sequence[WatchCut], values: dict[str, float]) -> npt.NDArray[np.bool_]:
    """Which cuts one picture crosses, (C,); a feature that is missing crosses none."""
    found = [values.get(cut.feature, float("nan")) for cut in cuts]
    return np.array(
        [
            x == x and (cut.low is None or x > cut.low) and (cut.high is None or x < cut.high)
            for cut, x in zip(cuts, found, strict=True)
        ],
        bool,
    )


class Watch:
    """Observes every inspection of one version; once it has withdrawn, it stays withdrawn.

    Any thread may let it observe: a version that is drained and the same one, loaded again, do so
    side by side.
    ``tell`` is called once with the reason, before any verdict that it touches.
    """

    def __init__(
        self,
        cuts: Sequence[WatchCut],
        threshold: float = THRESHOLD,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Nothing is withdrawn before the first picture."""
        self._evidence, self._threshold, self._tell = Evidence(cuts), threshold, tell
        self.fault: str | None = None
        self._lock = threading.Lock()

    @property
    def evidence(self) -> float:
        """Evidence of drift: withdrawn where it reaches the threshold."""
        return float(self._evidence.value[0])

    @property
    def pictures(self) -> int:
        """Pictures observed, up to the withdrawal."""
        return self._evidence.count

    def observe(self, inspection: Inspection) -> None:
        """Take one inspection; ``ERROR`` has nothing to observe."""
        if inspection.score is None or inspection.novelty is None:
            return
        with self._lock:
            if not self.fault:
                self._add(inspection, inspection.score, inspection.novelty)

    def _add(self, inspection: Inspection, score: float, novelty: float) -> None:
        values = {**inspection.quality, "score": score, "novelty": novelty}
        evidence = self._evidence
        if evidence.add(crossed(evidence.cuts, values)[None])[0] >= self._threshold:
            self.fault = (
                f"withdrawn after {evidence.count} pictures: {evidence.strongest()} is not as in "
                "calibration any more; certify again"
            )
            self._tell(self.fault)


def check_watch_state(settings: ServeSettings) -> None:
    """Refuse a folder that could not keep a withdrawal.

    Raises:
        SettingsError: ``watch_state`` is no folder, or cannot be written.
    """
    folder = settings.watch_state
    if folder is not None and not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise SettingsError(f"watch_state: must be a folder that can be written, got {folder}")


def open_watch(settings: ServeSettings, session: InspectionSession, model: Path) -> Watch | None:
    """A watch over the model's certificate; None where there is none or it does not hold.

    A withdrawal is kept in a file, beside ``model`` if nowhere else, so that whoever loads it next
    finds it.

    Raises:
        SettingsError: as :func:`check_watch_state`.
    """
    certificate = session.card.certificate
    check_watch_state(settings)
    folder = settings.watch_state or model.parent
    if certificate is None:
        return None
    digest = certificate.digest
    session.certificate_fault = session.certificate_fault or find_withdrawal(folder, digest)
    if session.certificate_fault:
        log.error("certificate %s does not hold: %s", digest, session.certificate_fault)
        return None

    def keep(fault: str) -> None:
        log.error("certificate %s is %s", digest, fault)
        try:
            keep_withdrawal(folder, digest, fault)
        except OSError as exc:
            log.error(
                "watch_state: %s must be writable (%s); the withdrawal ends with this process",
                folder, exc.strerror or exc,
            )  # fmt: skip

    return Watch(certificate.watch, tell=keep)
