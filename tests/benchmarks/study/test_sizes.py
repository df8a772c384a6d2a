import numpy as np
import pytest
from scipy import stats

from twonines.benchmarks.agreement import cohen_kappa
from twonines.benchmarks.comparison import mcnemar
from twonines.benchmarks.study import sizes
from twonines.errors import SettingsError


@pytest.mark.parametrize(
    ("limit", "wanted"),
    [
        (0.01, (299, 473, 628, 773, 1049)),
        (0.02, (149, 236, 313, 386, 523)),
        (0.05, (59, 93, 124, 153, 208)),
    ],
)
def test_tabled_sizes(limit: float, wanted: tuple[int, ...]) -> None:
    found = tuple(sizes.pictures_to_show(limit, errors) for errors in (0, 1, 2, 3, 5))
    assert found == wanted


@pytest.mark.parametrize(
    ("n", "wanted"), [(299, (22, 41, 74)), (1000, (44, 82, 99.6)), (2000, (79, 99, 100))]
)
def test_tabled_chances(n: int, wanted: tuple[float, ...]) -> None:
    for rate, chance in zip((0.005, 0.003, 0.001), wanted, strict=True):
        assert 100 * sizes.chance_to_show(n, 0.01, rate) == pytest.approx(chance, abs=0.6)
    assert sizes.chance_to_show(298, 0.01, 0.0) == 0
    assert sizes.chance_to_show(299, 0.01, 0.0) == 1


def slow_power(n: int, b: float, c: float) -> float:
    total = 0.0
    for i in range(n + 1):
        for j in range(n + 1 - i):
            if mcnemar(i, j) <= 0.05:
                total += stats.multinomial.pmf([i, j, n - i - j], n, [b, c, 1 - b - c])
    return total


@pytest.mark.parametrize(("n", "b", "c"), [(12, 0.6, 0.1), (20, 0.3, 0.05)])
def test_power_by_adding_up_every_outcome(n: int, b: float, c: float) -> None:
    assert sizes.mcnemar_power(n, b, c) == pytest.approx(slow_power(n, b, c))


def test_ninety_against_ninety_nine() -> None:
    n = sizes.pairs_for_mcnemar(0.99, 0.90)
    assert 115 <= n <= 140
    b, c = 0.99 * 0.1, 0.9 * 0.01
    assert sizes.mcnemar_power(n, b, c) >= 0.9 > sizes.mcnemar_power(n - 10, b, c)


def test_kappa_is_as_near_as_promised() -> None:
    kappa, prevalence = 0.7, 0.3
    n = sizes.pictures_for_kappa(kappa, prevalence, 0.1)
    apart = (1 - kappa) * prevalence * (1 - prevalence)
    cells = [prevalence - apart, apart, apart, 1 - prevalence - apart]
    generator = np.random.default_rng(0)
    found = []
    for counts in generator.multinomial(n, cells, 1500):
        pairs = np.repeat([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], counts, axis=0)
        found.append(cohen_kappa(pairs[:, 0], pairs[:, 1]))
    assert 1.96 * np.std(found) == pytest.approx(0.1, rel=0.08)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: sizes.pictures_to_show(0.0), "limit"),
        (lambda: sizes.pictures_to_show(0.1, -1), "errors"),
        (lambda: sizes.pairs_for_mcnemar(0.9, 0.9), "differ"),
        (lambda: sizes.pairs_for_mcnemar(1.0, 0.9), "first"),
        (lambda: sizes.pairs_for_mcnemar(0.9, 0.9001), "too close"),
        (lambda: sizes.mcnemar_power(10, 0.9, 0.2), "only_first"),
        (lambda: sizes.pictures_for_kappa(-0.9, 0.1, 0.1), "kappa"),
    ],
)
def test_impossible_wishes(call: object, name: str) -> None:
    assert callable(call)
    with pytest.raises(SettingsError, match=name):
        call()
