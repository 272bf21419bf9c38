"""Intervals against published examples, an independent computation, and their coverage."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binom, binomtest

from esmerge.evaluation.intervals import mean_of_shares, paired_interval, wilson
from esmerge.evaluation.significance import signed_difference

Z = 1.959964


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_a_share_has_the_published_interval(right: int, n: int, low: float, high: float) -> None:
    """Newcombe, Statistics in Medicine 17 (1998), 857: table I, method 3."""
    assert wilson(right, n) == pytest.approx((low, high), abs=5e-5)


def test_one_share_is_wilsons_and_several_are_narrower() -> None:
    assert mean_of_shares([0.9], [200]) == wilson(180, 200)
    low, high = mean_of_shares([0.5, 0.9], [400, 400])
    half = 1.96 * math.sqrt(0.5 * 0.5 / 400 + 0.9 * 0.1 / 400) / 2
    assert (low, high) == pytest.approx((0.7 - half, 0.7 + half), abs=0.002)


def test_benchmarks_without_an_error_leave_room_below_and_none_above() -> None:
    low, high = mean_of_shares([1.0, 1.0], [100, 100])
    assert high == 1.0 and low == pytest.approx(1 - (1 - wilson(100, 100)[0]) / math.sqrt(2))
    assert mean_of_shares([0.0, 0.0], [100, 100]) == pytest.approx((0.0, 1 - low))


@pytest.mark.parametrize(
    ("shares", "n"), [((0.99, 0.98), (100, 60)), ((0.5, 0.995), (40, 200)), ((0.7, 0.6), (50, 50))]
)
def test_a_mean_of_two_shares_is_covered(shares: tuple[float, float], n: tuple[int, int]) -> None:
    """Over all outcomes of both."""
    covered = 0.0
    for counts in itertools.product(*(range(size + 1) for size in n)):
        chance = math.prod(binom.pmf(count, size, share) for count, size, share in zip(counts, n, shares, strict=True))
        if chance > 1e-7:
            low, high = mean_of_shares([count / size for count, size in zip(counts, n, strict=True)], n)
            covered += chance * (low <= sum(shares) / 2 <= high)
    assert 0.93 < covered < 0.985


def test_pairs_have_the_published_interval_without_the_correction() -> None:
    """Airway reactivity before and after transplantation: 1 and 7 of 21 differ (Fagerland, Lydersen and Laake 2014)."""
    assert paired_interval(1, 7, 21, correction=0) == pytest.approx((-0.517, -0.026), abs=5e-4)


def score(b: int, c: int, n: int, difference: float) -> float:
    """Standard errors from ``difference`` to the observed one, the likelihood maximised by search."""

    def unlikely(second: float) -> float:
        first, rest = second + difference, 1 - 2 * second - difference
        terms = ((b, first), (c, second), (n - b - c, rest))
        return -sum(count * math.log(max(chance, 1e-300)) for count, chance in terms if count)

    bounds = (max(0.0, -difference), (1 - difference) / 2)
    second = minimize_scalar(unlikely, bounds=bounds, method="bounded", options={"xatol": 1e-10}).x
    return (b - c - n * difference) / math.sqrt(n * (2 * second + difference - difference**2))


@pytest.mark.parametrize(("b", "c", "n"), [(4, 1, 40), (12, 5, 100), (30, 45, 300), (1, 9, 25)])
@pytest.mark.parametrize("correction", [0.0, 1.0])
def test_bounds_are_where_the_score_is_critical(b: int, c: int, n: int, correction: float) -> None:
    low, high = paired_interval(b, c, n, correction=correction)
    variance = [((b - c - n * bound) / score(b, c, n, bound)) ** 2 for bound in (low, high)]
    assert (b - c - n * low - correction) / math.sqrt(variance[0]) == pytest.approx(Z, abs=1e-4)
    assert (b - c - n * high + correction) / math.sqrt(variance[1]) == pytest.approx(-Z, abs=1e-4)


def test_pairs_at_the_edge() -> None:
    assert paired_interval(0, 0, 3)[0] == -paired_interval(0, 0, 3)[1] > -1
    assert paired_interval(5, 0, 5)[1] == 1.0 and paired_interval(0, 5, 5)[0] == -1.0
    low, high = paired_interval(7, 2, 60)
    assert paired_interval(2, 7, 60) == (-high, -low)


def test_zero_is_left_out_as_the_exact_test_decides() -> None:
    """Of all outcomes with up to 25 disagreements of 200."""
    outcomes = [(b, c) for b in range(26) for c in range(26 - b) if b + c]
    differing = []
    for b, c in outcomes:
        low, high = paired_interval(b, c, 200)
        p = binomtest(b, b + c).pvalue
        if (low > 0 or high < 0) != (p < 0.05):
            differing.append(p)
    assert len(differing) <= 4 and all(abs(p - 0.05) < 0.01 for p in differing)


@pytest.mark.parametrize(("n", "a", "b"), [(100, 0.04, 0.01), (40, 0.1, 0.02), (80, 0.2, 0.15)])
def test_a_difference_of_pairs_is_covered(n: int, a: float, b: float) -> None:
    """Over all outcomes; the corrected interval errs on the safe side."""
    covered = whole = 0.0
    for only_a in range(n + 1):
        for only_b in range(n + 1 - only_a):
            chance = float(binom.pmf(only_a, n, a) * binom.pmf(only_b, n - only_a, b / (1 - a)))
            if chance > 1e-5:
                low, high = paired_interval(only_a, only_b, n)
                covered, whole = covered + chance * (low <= a - b <= high), whole + chance
    assert covered / whole > 0.95


def test_questions_that_return_under_seeds_are_covered() -> None:
    """Each question has a lean of its own, which its three answers share: counted as 360 answers they would not be."""
    rng, covered, naive = np.random.default_rng(0), 0, 0
    n, draws, mean = 120, 300, 0.06
    clusters, zeros = np.repeat(np.arange(n), 3), np.zeros(3 * n, dtype=np.int64)
    for _ in range(draws):
        lean = np.repeat(rng.choice([0.9, -0.6, 0.0], size=n, p=[0.2, 0.2, 0.6]), 3)  # 0.06 on average
        signed = (np.sign(lean) * (rng.random(3 * n) < np.abs(lean))).astype(np.int64)
        result = signed_difference(signed, clusters, zeros, zeros, seed=0)
        covered += result.ci_low <= mean <= result.ci_high
        low, high = paired_interval(result.only_a, result.only_b, 3 * n)
        naive += low <= mean <= high
    assert covered / draws > 0.93 > 0.9 > naive / draws
