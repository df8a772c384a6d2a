import math

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from tests.certified import make_certificate
from tests.conftest import tiny_card
from twonines.models.card import ModelCard
from twonines.models.certificate import (
    allowed_escapes,
    escape_bound,
    find_accept_below,
    find_fault,
    needed_units,
)


@pytest.mark.parametrize(
    ("alpha", "delta", "needed"),
    # Sample sizes with no failure: 95/99 % gives 299, 95/95 % gives 59, 90/90 % gives 22, 90/95 %
    # gives 29 (MIL-HDBK and Wilks tables).
    [(0.01, 0.05, 299), (0.05, 0.05, 59), (0.1, 0.1, 22), (0.1, 0.05, 29), (0.01, 0.01, 459)],
)
def test_needed_units_against_published_values(alpha: float, delta: float, needed: int) -> None:
    assert needed_units(alpha, delta) == needed == math.ceil(math.log(delta) / math.log(1 - alpha))
    assert allowed_escapes(needed, alpha, delta) == 0
    assert allowed_escapes(needed - 1, alpha, delta) == -1


def test_needed_units_with_one_escape() -> None:
    # Wilks' second order at 95/95: 93.
    assert needed_units(0.05, 0.05, escapes=1) == 93
    assert allowed_escapes(93, 0.05, 0.05) == 1 and allowed_escapes(92, 0.05, 0.05) == 0


@pytest.mark.parametrize("alpha", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("escapes", [0, 5, 60])
def test_needed_units_are_the_least_that_show_it(alpha: float, escapes: int) -> None:
    needed = needed_units(alpha, 0.05, escapes)
    assert stats.binom.cdf(escapes, needed, alpha) <= 0.05
    assert stats.binom.cdf(escapes, needed - 1, alpha) > 0.05


def test_allowed_escapes_agree_with_clopper_pearson() -> None:
    for n in (1, 59, 200, 411):
        for alpha in (0.01, 0.05, 0.2):
            slow = max([k for k in range(n) if escape_bound(k, n, 0.05) <= alpha], default=-1)
            assert allowed_escapes(n, alpha, 0.05) == slow


def test_bound_against_scipy() -> None:
    upper = stats.binomtest(3, 100, alternative="less").proportion_ci(0.95, "exact").high
    assert escape_bound(3, 100, 0.05) == pytest.approx(upper)
    assert escape_bound(0, 100, 0.05) == pytest.approx(1 - 0.05**0.01)
    assert escape_bound(5, 5, 0.05) == 1.0


def test_no_bound_without_parts() -> None:
    assert allowed_escapes(0, 0.5, 0.05) == -1
    assert find_accept_below([], 0.5, 0.05) is None


def test_threshold_keeps_ties_and_counts() -> None:
    scores = np.arange(93) / 100
    assert find_accept_below(scores, 0.05, 0.05) == 0.01
    assert find_accept_below(np.zeros(93), 0.05, 0.05) == 0.0
    with pytest.raises(ValueError, match="finite"):
        find_accept_below([0.1, np.nan], 0.05, 0.05)
    with pytest.raises(ValueError, match=r"alpha: must lie in \(0, 1\), got 2"):
        find_accept_below(scores, 2, 0.05)


def test_threshold_grows_with_alpha() -> None:
    scores = np.random.default_rng(0).uniform(size=300)
    cuts = [find_accept_below(scores, alpha, 0.05) or 0.0 for alpha in (0.005, 0.01, 0.05, 0.2)]
    assert cuts == sorted(cuts) and cuts[0] == 0.0 and cuts[3] > cuts[2] > cuts[1]


@pytest.mark.parametrize(("n", "alpha"), [(60, 0.05), (93, 0.05), (400, 0.02)])
def test_simulated_violations_are_binomial_and_at_most_delta(n: int, alpha: float) -> None:
    # Scores are uniform, so the true escape rate is the threshold itself.
    rng = np.random.default_rng(1)
    rounds, delta = 4000, 0.1
    bad = sum(
        (find_accept_below(rng.uniform(size=n), alpha, delta) or 0) > alpha for _ in range(rounds)
    )
    exact = stats.binom.cdf(allowed_escapes(n, alpha, delta), n, alpha)
    assert exact <= delta
    low, high = stats.binom.ppf([1e-4, 1 - 1e-4], rounds, exact)
    assert low <= bad <= high


def test_lot_bound_holds_on_the_untouched_part_where_the_plain_one_does_not() -> None:
    rng = np.random.default_rng(2)
    n, lot, alpha, delta, rounds = 200, 200, 0.05, 0.05, 3000
    over = {None: 0, lot: 0}
    for _ in range(rounds):
        scores = rng.uniform(size=n + lot)
        for kind in over:
            cut = find_accept_below(scores[:n], alpha, delta, kind)
            assert cut is not None
            over[kind] += (scores[n:] < cut).mean() > alpha
    assert over[lot] <= stats.binom.ppf(1 - 1e-4, rounds, delta)
    assert over[None] > over[lot]


def test_groups_need_the_group_bound() -> None:
    """Copies of one part counted as parts break the word; one score a part keeps it."""
    rng = np.random.default_rng(3)
    groups, shots, alpha, delta, rounds = 59, 6, 0.05, 0.05, 2000
    by_picture = by_group = 0
    for _ in range(rounds):
        level = rng.uniform(size=groups)
        pictures = np.repeat(level, shots)
        by_picture += (find_accept_below(pictures, alpha, delta) or 0) > alpha
        by_group += (find_accept_below(level, alpha, delta) or 0) > alpha
    assert by_group <= stats.binom.ppf(1 - 1e-4, rounds, delta)
    assert by_picture > 2 * delta * rounds


@pytest.mark.parametrize(
    "what", ["graph", "preprocessing", "decision", "execution_provider", "precision"]
)
def test_what_changed_voids(what: str) -> None:
    certificate = make_certificate(tiny_card(), graph="g", preprocessing="p")
    now = {
        "graph": "g",
        "preprocessing": "p",
        "decision": certificate.decision,
        "execution_provider": "cpu",
        "precision": "float32",
    }
    assert find_fault(certificate, **now) is None
    assert find_fault(certificate, **{**now, what: "x"})


def test_figures_that_contradict_the_claim_void() -> None:
    card = tiny_card()
    certificate = make_certificate(card).model_copy(update={"alpha": 0.001})
    now = {"graph": "", "preprocessing": "", "decision": certificate.decision}
    found = find_fault(certificate, **now, execution_provider="cpu", precision="float32")
    assert found and "its own figures do not show it" in found


def test_digest_names_the_certificate() -> None:
    one = make_certificate(tiny_card())
    assert len(one.digest) == 12 and one.digest == make_certificate(tiny_card()).digest
    assert one.digest != one.model_copy(update={"alpha": 0.02}).digest
    assert "at most 0.05 of the defective pictures" in one.statement


def test_old_cards_load_and_keep_their_decisions() -> None:
    old = tiny_card().model_dump(mode="json")
    del old["quality"], old["certificate"]
    for key in ("accept_below", "class_rules", "min_defect_area"):
        del old["policy"][key]
    card = ModelCard.model_validate(old)
    assert card == tiny_card() and card.policy.accepts_below == 0.5


def test_decision_digest_sees_the_policy_alone() -> None:
    card = tiny_card()
    assert card.decision_digest() == tiny_card(name="other").decision_digest()
    policy = card.policy.model_copy(update={"threshold": 0.6})
    assert card.decision_digest() != tiny_card(policy=policy).decision_digest()


@pytest.mark.parametrize("changes", [{"alpha": 0.0}, {"alpha": math.nan}, {"n_defective": 0}])
def test_bad_certificates_are_refused(changes: dict[str, object]) -> None:
    values = make_certificate(tiny_card()).model_dump()
    with pytest.raises(ValidationError):
        type(make_certificate(tiny_card())).model_validate({**values, **changes})
