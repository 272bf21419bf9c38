from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap

from esmerge.core.errors import InputError
from esmerge.evaluation.intervals import paired_interval
from esmerge.evaluation.significance import holm, paired_difference, stack_predictions


def answers(right: list[int], prefix: str = "q") -> pd.DataFrame:
    ids = [f"{prefix}{i}" for i in range(len(right))]
    return pd.DataFrame({"id": ids, "label": "yes", "prediction": ["yes" if r else "no" for r in right]})


def test_mcnemar_by_hand() -> None:
    # 10 questions: a alone is right on five, b alone on one, both on four.
    a, b = answers([1] * 9 + [0]), answers([0] * 5 + [1] * 5)
    result = paired_difference(a, b, seed=0)
    assert (result.only_a, result.only_b, result.n) == (5, 1, 10)
    assert result.difference == pytest.approx(0.4)
    assert result.p_value == pytest.approx(2 * (1 + 6) / 2**6)  # 2 P(at most one of six coins)


def stacked(parts: dict[str, list[int]]) -> pd.DataFrame:
    return stack_predictions({("0", benchmark): answers(right) for benchmark, right in parts.items()})


def test_one_benchmark_has_the_score_interval() -> None:
    a, b = answers([1] * 34 + [0] * 6), answers([1] * 30 + [0] * 10)
    result = paired_difference(a, b, seed=0)
    assert (result.ci_low, result.ci_high) == paired_interval(4, 0, 40)
    assert result.p_value == pytest.approx(0.125) and result.ci_low < 0 < result.ci_high


def test_the_interval_of_several_benchmarks_agrees_with_scipy() -> None:
    rng = np.random.default_rng(0)
    right = {name: (rng.random(150) < 0.7, rng.random(150) < 0.6) for name in ("x", "y")}
    a, b = (stacked({name: list(sides[side]) for name, sides in right.items()}) for side in (0, 1))
    ours = paired_difference(a, b, seed=1)
    data = tuple(np.concatenate([sides[side] for sides in right.values()]).astype(float) for side in (0, 1))
    theirs = bootstrap(
        data, lambda x, y, axis: (x - y).mean(axis=axis), paired=True, method="percentile", rng=2, vectorized=True
    ).confidence_interval
    assert (ours.ci_low, ours.ci_high) == pytest.approx((theirs.low, theirs.high), abs=0.008)


def test_benchmarks_of_unequal_size_count_equally() -> None:
    """Ahead by 6 points on 2,000 questions and behind by 30 on 100: behind in the mean, ahead of all answers pooled."""
    a = stacked({"large": [1] * 1120 + [0] * 880, "small": [1] * 50 + [0] * 50})
    b = stacked({"large": [1] * 1000 + [0] * 1000, "small": [1] * 80 + [0] * 20})
    result = paired_difference(a, b, seed=0, equal_sets=True)
    assert result.difference == pytest.approx((0.06 - 0.30) / 2) and result.n == 2100
    assert paired_difference(a, b, seed=0).difference == pytest.approx((120 - 30) / 2100)
    data = ([1.0] * 120 + [0.0] * 1880, [-1.0] * 30 + [0.0] * 70)
    theirs = bootstrap(
        data,
        lambda x, y, axis: (x.mean(axis=axis) + y.mean(axis=axis)) / 2,
        method="percentile",
        rng=2,
        vectorized=True,
    ).confidence_interval
    assert (result.ci_low, result.ci_high) == pytest.approx((theirs.low, theirs.high), abs=0.004)
    assert result.ci_high < 0 and result.p_value < 1e-5
    assert result.null_error == pytest.approx(np.sqrt(120 / 2000**2 + 30 / 100**2) / 2)


def test_benchmarks_of_equal_size_are_as_if_pooled() -> None:
    rng = np.random.default_rng(5)
    sides = [stacked({name: list(rng.random(60) < rate) for name in "xyz"}) for rate in (0.7, 0.6)]
    assert paired_difference(*sides, seed=0, equal_sets=True) == paired_difference(*sides, seed=0)


def test_seeds_of_unequal_size_count_equally() -> None:
    a = stack_predictions({("0", "x"): answers([1] * 30), ("1", "x"): answers([1] * 9 + [0], "r")})
    b = stack_predictions({("0", "x"): answers([1] * 27 + [0] * 3), ("1", "x"): answers([1] * 4 + [0] * 6, "r")})
    assert paired_difference(a, b, seed=0, equal_sets=True).difference == pytest.approx((0.1 + 0.5) / 2)


def test_order_does_not_matter_and_swapping_changes_the_sign() -> None:
    rng = np.random.default_rng(3)
    a, b = answers(list(rng.random(80) < 0.7)), answers(list(rng.random(80) < 0.5))
    forward, shuffled = paired_difference(a, b, 0), paired_difference(a.sample(frac=1, random_state=1), b, 0)
    backward = paired_difference(b, a, 0)
    assert forward == shuffled
    assert backward.difference == -forward.difference and backward.p_value == forward.p_value


def test_equal_methods_differ_by_nothing() -> None:
    result = paired_difference(answers([1, 0, 1]), answers([1, 0, 1]), seed=0)
    assert (result.difference, result.p_value) == (0, 1)
    assert result.ci_low == -result.ci_high < 0  # three questions prove little


def test_an_unparsable_answer_is_wrong() -> None:
    silent = answers([1, 1]).assign(prediction=["yes", ""])
    assert paired_difference(answers([1, 1]), silent, 0).only_a == 1


def test_benchmarks_are_pooled_by_stacking() -> None:
    a = stack_predictions({("0", "x"): answers([1, 1]), ("0", "y"): answers([1, 1])})
    b = stack_predictions({("0", "x"): answers([0, 1]), ("0", "y"): answers([0, 1])})
    result = paired_difference(a, b, seed=0)
    assert (result.n, result.only_a) == (4, 2)
    assert result.p_value == pytest.approx(2 * 0.5**2)


def test_seeds_of_one_example_are_one_cluster() -> None:
    seeds = [str(seed) for seed in range(5)]
    a = stack_predictions({(seed, "x"): answers([1, 0]) for seed in seeds})
    b = stack_predictions({(seed, "x"): answers([0, 0]) for seed in seeds})
    result = paired_difference(a, b, seed=0)
    assert (result.n, result.only_a, result.difference) == (10, 5, 0.5)
    assert result.p_value == 1.0  # five times the same example is one observation


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (answers([1, 1, 1]), answers([1, 1]), "'q2' was not answered by the second"),
        (answers([1]), answers([1, 0]), "'q1' was not answered by the first"),
        (answers([1, 1]), answers([1, 1]).assign(label=["yes", "no"]), "'q1' has label 'yes'"),
        (answers([1, 1]).assign(id="q0"), answers([1]), "answers example 'q0' twice"),
        (answers([]), answers([]), "no predictions"),
    ],
)
def test_unpaired_answers_are_refused_by_name(a: pd.DataFrame, b: pd.DataFrame, message: str) -> None:
    with pytest.raises(InputError, match=message):
        paired_difference(a, b, seed=0)


def test_nothing_to_pool_is_refused() -> None:
    with pytest.raises(InputError, match="no predictions to pool"):
        stack_predictions({})


def test_holm_by_hand() -> None:
    # sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 -> 0.02, 0.03, 0.06, 0.04 -> running maximum
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_holm_lies_between_the_raw_and_the_bonferroni_value(p_values: list[float]) -> None:
    for raw, adjusted in zip(p_values, holm(p_values), strict=True):
        assert raw <= adjusted <= min(1.0, raw * len(p_values)) + 1e-12
