"""The smallest detectable difference, against the exact power of the exact test, enumerated."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from esmerge.evaluation.power import fewest_one_way, minimum_detectable
from esmerge.evaluation.sign_flips import sign_flip_p
from esmerge.evaluation.significance import paired_difference


def frame(right: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"id": range(len(right)), "label": "y", "prediction": np.where(right, "y", "n")})


def exact_power(n: int, disagreement: float, difference: float, level: float) -> float:
    """Probability that McNemar's exact test rejects, over how many disagree and how many of those favour a."""
    share = (disagreement + difference) / (2 * disagreement)
    power = 0.0
    for count in range(1, n + 1):
        favour = np.arange(count + 1)
        p = np.minimum(1, 2 * binom.cdf(np.minimum(favour, count - favour), count, 0.5))
        power += binom.pmf(count, n, disagreement) * binom.pmf(favour, count, share)[p < level].sum()
    return power


@pytest.mark.parametrize(("n", "disagreement"), [(200, 0.3), (400, 0.15), (600, 0.4)])
@pytest.mark.parametrize("level", [0.05, 0.005])
def test_the_exact_test_finds_it_four_times_in_five(n: int, disagreement: float, level: float) -> None:
    half = round(n * disagreement / 2)
    only_a = np.arange(n) < half
    only_b = (np.arange(n) >= half) & (np.arange(n) < 2 * half)
    result = paired_difference(frame(~only_b), frame(~only_a), seed=0, resamples=10)
    assert result.clusters == n and result.difference == 0
    smallest = minimum_detectable(result, level)
    assert 0.72 < exact_power(n, 2 * half / n, smallest, level) < 0.83  # the exact test is the stricter one
    assert exact_power(n, 2 * half / n, 0.6 * smallest, level) < 0.5


def test_without_any_disagreement_it_is_what_the_test_can_call_significant_at_all() -> None:
    result = paired_difference(frame(np.ones(50)), frame(np.ones(50)), seed=0, resamples=10)
    assert minimum_detectable(result) == 6 / 50
    assert minimum_detectable(paired_difference(frame(np.ones(3)), frame(np.ones(3)), seed=0, resamples=10)) == 1


@pytest.mark.parametrize("level", [0.05, 0.01, 0.003])
def test_one_disagreement_fewer_is_never_significant(level: float) -> None:
    fewest = fewest_one_way(level)
    assert sign_flip_p(np.ones(fewest, dtype=int)) <= level < sign_flip_p(np.ones(fewest - 1, dtype=int))


def test_questions_that_return_under_seeds_do_not_count_twice() -> None:
    right = np.arange(100) % 3 > 0
    once = paired_difference(frame(right), frame(~right), seed=0, resamples=10)
    a, b = (pd.concat([frame(r).assign(repeat=seed) for seed in ("0", "1")]) for r in (right, ~right))
    twice = paired_difference(a, b, seed=0, resamples=10)
    assert twice.n == 200 and twice.clusters == 100
    assert minimum_detectable(twice) == pytest.approx(minimum_detectable(once))
