"""What a batch costs, measured while serving: seconds = fixed + each * inputs.

Weighted least squares over the last batches, as BentoML's dispatcher does; from it come the
predicted wait, the truth of Retry-After, and whether it pays to wait for a fuller batch.
"""

import threading

_FORGET = 0.97
"""Weight of a batch against that of the next: the last hundred decide."""


def average(old: float, new: float) -> float:
    """A slow average that starts at the first value."""
    return old + 0.1 * (new - old) if old else new


class CostModel:
    """``fixed`` and ``each``, both in seconds and never negative; 0 before the first batch.

    Where all batches had one size the line is not determined: then the last one is stretched so
    that it predicts that size rightly. Where there is none, everything counts as ``each``, which
    never makes a batch wait.
    """

    def __init__(self) -> None:
        """Nothing is known yet."""
        self.fixed = self.each = 0.0
        self._w = self._n = self._nn = self._t = self._nt = 0.0
        self._lock = threading.Lock()

    def note(self, inputs: int, seconds: float) -> None:
        """Take one batch of ``inputs`` that ran for ``seconds``."""
        with self._lock:
            self._w = _FORGET * self._w + 1
            self._n = _FORGET * self._n + inputs
            self._nn = _FORGET * self._nn + inputs * inputs
            self._t = _FORGET * self._t + seconds
            self._nt = _FORGET * self._nt + inputs * seconds
            self._fit()

    def _fit(self) -> None:
        mean_n, mean_t = self._n / self._w, self._t / self._w
        spread = self._nn / self._w - mean_n**2
        if spread < 0.05 * mean_n:  # one size, but for a few batches
            before = self.fixed + self.each * mean_n
            if before:
                self.fixed, self.each = (part * mean_t / before for part in (self.fixed, self.each))
            else:
                self.each = mean_t / mean_n
            return
        each = (self._nt / self._w - mean_n * mean_t) / spread
        fixed = mean_t - each * mean_n
        if fixed < 0:
            self.fixed, self.each = 0.0, self._nt / self._nn  # the best line through 0
        elif each < 0:
            self.fixed, self.each = mean_t, 0.0
        else:
            self.fixed, self.each = fixed, each

    def seconds(self, inputs: float, max_batch_size: int) -> float:
        """Predicted seconds of the session for so many inputs, in full batches."""
        if inputs <= 0:
            return 0.0
        return -(-inputs // max_batch_size) * self.fixed + inputs * self.each

    def is_waiting_worth(self, inputs: int, gap_s: float) -> bool:
        """Whether a free session should wait for the next input, which is due in ``gap_s``.

        The rule minimises the sum of the waiting times of the ``inputs`` that are there and of
        the one to come. Started now, they end after a + b n and the next after 2 a + b (n + 1);
        with the wait, all end after gap + a + b (n + 1). The sum of the first is larger exactly
        where a > b n + (n + 1) gap: where starting is dear and inputs come fast.
        """
        return self.fixed > self.each * inputs + (inputs + 1) * gap_s
