from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from esmerge.evaluation import sign_flips
from esmerge.evaluation.sign_flips import drawn_sign_flip_p, sets_sign_flip_p, sign_flip_p


@given(st.integers(0, 60), st.integers(0, 60))
def test_single_examples_give_the_exact_mcnemar_test(only_a: int, only_b: int) -> None:
    differences = np.array([1] * only_a + [-1] * only_b + [0] * 3)
    expected = binomtest(only_a, only_a + only_b, 0.5).pvalue if only_a + only_b else 1.0
    assert sign_flip_p(differences) == pytest.approx(expected)


def enumerated(differences: list[Fraction] | list[int]) -> float:
    """The share of all signs whose sum is as far from zero."""
    signs = itertools.product([-1, 1], repeat=len(differences))
    sums = [sum(sign * d for sign, d in zip(combination, differences, strict=True)) for combination in signs]
    return sum(abs(value) >= abs(sum(differences)) for value in sums) / len(sums)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=8))
def test_clusters_give_the_sign_flip_test(differences: list[int]) -> None:
    assert sign_flip_p(np.array(differences)) == pytest.approx(enumerated(differences))


sets_of_differences = st.lists(st.lists(st.integers(-1, 1), min_size=1, max_size=5), min_size=1, max_size=3)


@settings(max_examples=60)
@given(sets_of_differences)
def test_sets_count_equally_whatever_their_size(sets: list[list[int]]) -> None:
    weighed = [Fraction(d, len(differences)) for differences in sets for d in differences if d]
    signed = np.array([d for differences in sets for d in differences])
    numbers = np.repeat(np.arange(len(sets)), [len(differences) for differences in sets])
    assert sets_sign_flip_p(signed, np.arange(len(signed)), numbers) == pytest.approx(enumerated(weighed))


def test_a_question_has_one_coin_in_all_of_its_sets() -> None:
    """Two sets of one and two answers; the first question is in both."""
    signed, clusters, sets = (np.array(values) for values in ([1, 1, -1], [0, 0, 1], [0, 1, 1]))
    assert sets_sign_flip_p(signed, clusters, sets) == enumerated([Fraction(3, 2), Fraction(-1, 2)])


def test_draws_agree_with_the_exact_test_and_are_never_nothing() -> None:
    differences = np.array([1.0] * 30 + [-1.0] * 18 + [2.0] * 5 + [0.0])
    assert drawn_sign_flip_p(differences) == pytest.approx(sign_flip_p(differences.astype(int)), abs=0.004)
    assert drawn_sign_flip_p(np.ones(80)) == 1 / (1 + sign_flips.DRAWS)
    assert drawn_sign_flip_p(np.zeros(5)) == 1.0


def test_sizes_without_a_small_common_multiple_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    sizes = (997, 641, 83)
    sets = np.repeat(np.arange(3), sizes)
    signed = rng.choice([-1, 0, 1], size=sum(sizes), p=[0.05, 0.88, 0.07])
    monkeypatch.setattr(sign_flips, "sign_flip_p", None)  # is not called
    p = sets_sign_flip_p(signed, np.arange(len(signed)), sets)
    assert p == sets_sign_flip_p(signed, np.arange(len(signed)), sets)
    weights = 1 / np.array(sizes)[sets]
    flipped = np.abs(rng.choice([-1, 1], size=(5_000, len(signed))) @ (signed * weights))
    assert p == pytest.approx(np.mean(flipped >= abs((signed * weights).sum())), abs=0.03)
