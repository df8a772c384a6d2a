"""The certificate: escape rate at most alpha with confidence 1 - delta, and what it was made of.

Mathematics. A part escapes where its score lies under the accept threshold t; the escape rate
R(t) = P(score < t | defective) grows with t. Thresholds are tested from the strictest on, each by
the exact binomial p-value of "R(t) > alpha", and the last that holds is taken: fixed-sequence
testing (Angelopoulos, Bates, Candès, Jordan, Lei, *Learn then Test*, 2021). Because R is monotone,
every real threshold may stand in the sequence (Bates et al., *Distribution-free, risk-controlling
prediction sets*, J. ACM 2021), and the result is the (k + 1)-th smallest score of the n defective
parts, with k the most escapes that n allow: Wilks' tolerance limit (1941).

Units. Where the set names groups, a part is a group: it counts as one, and escapes if *any* of its
defective pictures would be accepted. Pictures of one part are not independent, so counting them
one by one would claim more than was seen. The certified rate is then the share of defective parts
of which any picture is accepted.

What it needs. The score must rank parts the same whatever the certification pictures are. Platt's
calibration on the same pictures only relabels the scores in the same order, so the set of accepted
parts, and with it the bound, is exactly that of the raw margin. Novelty and quality limits, class
rules and a lower NG threshold only take parts *out* of OK; the bound counts none of that.
"""

import hashlib
import json
import math
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy import special

from twonines.models.parts import CardPart, Metric

Unit = Literal["picture", "group"]
METHOD = "learn-then-test, fixed sequence, exact binomial"


class WatchCut(CardPart):
    """An event that is rare while pictures are as in calibration, for the validity watch.

    The event is ``low < feature < high``, an end that is None being open. Whatever the mix of good
    and defective parts, its probability is at most ``probability``, see
    :func:`twonines.models.baseline.learn_cuts`.
    """

    feature: str
    low: float | None = None
    high: float | None = None
    probability: float = Field(gt=0, lt=1)


class Certificate(CardPart):
    """Escape rate at most ``alpha`` with confidence 1 - ``delta``.

    ``n_defective`` and ``n_good`` count units, ``defective_pictures`` and ``good_pictures`` their
    pictures. ``escapes`` were counted among the units at ``accept_below``; ``escape_bound`` is
    Clopper and Pearson's upper bound for them at 1 - ``delta``. The rates stand at the certified
    policy with 95 % intervals. ``graph``, ``preprocessing`` and ``decision`` are digests that a
    session compares with its own; ``data`` is that of the certification pictures.
    """

    alpha: float = Field(gt=0, lt=1)
    delta: float = Field(gt=0, lt=1)
    method: str = METHOD
    unit: Unit
    accept_below: float = Field(ge=0, le=1)
    n_defective: int = Field(ge=1)
    n_good: int = Field(ge=0)
    defective_pictures: int = Field(ge=1)
    good_pictures: int = Field(ge=0)
    escapes: int = Field(ge=0)
    escape_bound: float = Field(ge=0, le=1)
    overkill: Metric | None = None
    review_good: Metric | None = None
    review_defective: Metric
    data_name: str
    data: str
    independent: bool
    """True where the pictures had no part at all in teaching, not even as calibration split."""
    graph: str
    preprocessing: str
    decision: str
    precision: str = "float32"
    execution_providers: tuple[str, ...] = Field(min_length=1)
    watch: tuple[WatchCut, ...] = ()
    created: str

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that name this certificate in every verdict."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def statement(self) -> str:
        """The claim in one sentence."""
        what = "defective parts" if self.unit == "group" else "defective pictures"
        return (
            f"at most {self.alpha:.3g} of the {what} pass as OK, with confidence "
            f"{1 - self.delta:.3g} ({self.escapes} escapes of {self.n_defective})"
        )


def allowed_escapes(n: int, alpha: float, delta: float, lot: int | None = None) -> int:
    """The most escapes among n defective units that still show the bound; -1 where none do.

    Without ``lot`` the bound is on the rate of the population: the greatest k with
    P(Binomial(n, alpha) <= k) <= delta. With ``lot``, it is on the share of the next ``lot``
    defective units themselves, whose own luck is in it: the number of them under the (k + 1)-th
    smallest of n exchangeable scores is at most beta-binomial(lot, k + 1, n - k).

    Raises:
        ValueError: an argument is outside its range.
    """
    check_levels(alpha, delta)
    if n < 0 or (lot is not None and lot < 1):
        raise ValueError(f"n: must be at least 0 and lot at least 1, got {n} and {lot}")
    counts = np.arange(n)
    if lot is None:
        fails = special.bdtr(counts, n, alpha)
    else:
        # Most of a second to import, which services that only hold a certificate need not wait for.
        from scipy.stats import betabinom

        # rounding must not turn 0.05 * 20 into 0.99...
        limit = math.floor(alpha * lot + 1e-9)
        fails = betabinom.sf(limit, lot, counts + 1, n - counts)
    return int(np.sum(fails <= delta)) - 1


def needed_units(alpha: float, delta: float, escapes: int = 0) -> int:
    """Defective units that show the bound with ``escapes`` among them.

    With none it is the least n with (1 - alpha)^n <= delta, so n >= ln(delta) / ln(1 - alpha).
    """
    check_levels(alpha, delta)
    n = max(math.ceil(math.log(delta) / math.log1p(-alpha) - 1e-9), escapes + 1)
    while special.bdtr(escapes, n, alpha) > delta:
        n += 1
    return n


def find_accept_below(
    scores: npt.ArrayLike, alpha: float, delta: float, lot: int | None = None
) -> float | None:
    """The greatest threshold t for which "score < t is OK" keeps the bound.

    Args:
        scores: (n,) one of each defective unit: of a group the least of its pictures.
        alpha: highest escape rate.
        delta: 1 - confidence.
        lot: see :func:`allowed_escapes`.

    Returns:
        The threshold, or None where n units cannot show the bound.

    Raises:
        ValueError: a score is not finite, or an argument is outside its range.
    """
    values = np.sort(np.asarray(scores, np.float64))
    if not np.isfinite(values).all():
        raise ValueError("scores: must be finite")
    allowed = allowed_escapes(len(values), alpha, delta, lot)
    return float(values[allowed]) if allowed >= 0 else None


def escape_bound(escapes: int, n: int, delta: float) -> float:
    """Clopper and Pearson's one-sided upper bound of the escape rate at 1 - delta."""
    return 1.0 if escapes >= n else float(special.betaincinv(escapes + 1, n - escapes, 1 - delta))


def check_levels(alpha: float, delta: float) -> None:
    """Refuse levels outside (0, 1) by name."""
    for name, value in (("alpha", alpha), ("delta", delta)):
        if not 0 < value < 1:
            raise ValueError(f"{name}: must lie in (0, 1), got {value}")


def find_fault(
    certificate: Certificate, *, graph: str, preprocessing: str, decision: str,
    execution_provider: str, precision: str,
) -> str | None:  # fmt: skip
    """Why the certificate does not hold for what is loaded; None where it does.

    It is not signed: this finds mistakes and contradictions, not someone who makes it all anew.
    """
    if certificate.escapes > allowed_escapes(
        certificate.n_defective, certificate.alpha, certificate.delta
    ):
        return f"its own figures do not show it: {certificate.statement}"
    for what, made, here in (
        ("the model's graph or weights", certificate.graph, graph),
        ("the preprocessing", certificate.preprocessing, preprocessing),
        ("the decision policy", certificate.decision, decision),
    ):
        if made != here:
            return f"{what} changed after certification"
    if execution_provider not in certificate.execution_providers:
        return (
            f"it was made on {', '.join(certificate.execution_providers)}, "
            f"the model runs on {execution_provider}"
        )
    if precision != certificate.precision:
        return f"it was made in {certificate.precision}, the model runs in {precision}"
    return None
