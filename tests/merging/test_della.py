"""DELLA against hand-worked numbers, its expectation, and mergekit on the same draws."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mergekit.sparsify import SparsificationMethod, sparsify
from tests.merging.builders import dense, distance, make_experts
from tests.merging.drops import MODULE, draw_with, experts_of, mergekit, random_input

from esmerge.core.errors import ConfigError
from esmerge.merging.api import MergeInput
from esmerge.merging.methods.dare import DareSettings, dare, uniform_numbers
from esmerge.merging.methods.della import DellaSettings, della, drop_by_rank


def test_drop_by_rank_by_hand() -> None:
    # five entries, p = 0.5, epsilon = 0.2: from smallest to largest 0.7, 0.6, 0.5, 0.4, 0.3, in each row by itself
    values = torch.tensor([[1.0, -5, 3, 2, -4], [50, 10, 20, -30, 40]])
    expected = torch.tensor([[0.7, 0.3, 0.5, 0.6, 0.4], [0.3, 0.7, 0.6, 0.5, 0.4]])
    torch.testing.assert_close(drop_by_rank(values, 0.5, 0.2), expected)


def test_by_hand() -> None:
    inputs = MergeInput(experts_of(torch.tensor([[4.0, -2, 6]]), torch.tensor([[-1.0, -3, 2]])), "delta", seed=35)
    numbers = torch.tensor([[[0.88, 0.63, 0.85]], [[0.85, 0.31, 0.90]]])
    torch.testing.assert_close(uniform_numbers(inputs, MODULE), numbers, rtol=0, atol=0.006)
    # p = 0.5, epsilon = 0.25: 0.75, 0.5, 0.25 from smallest to largest. x drops its smallest entry, 0.63 < 0.75, and is
    # (4 / 0.5, 0, 6 / 0.75) = (8, 0, 8); y keeps all and is (-1 / 0.25, -3 / 0.75, 2 / 0.5) = (-4, -4, 4)
    # sums (4, -4, 12): y disagrees on the first entry, is alone on the second, and the third is a mean
    config = DellaSettings(drop=0.5, epsilon=0.25, scale=2.0)
    assert della(inputs, config).state.modules[MODULE].tolist() == [[16, -8, 12]]


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 5), st.sampled_from([(0.3, 0.07), (0.5, 0.4), (0.9, 0.05)]), st.integers(0, 999))
def test_agrees_with_mergekit_on_the_same_draws(count: int, window: tuple[float, float], seed: int) -> None:
    # mergekit masks as we do but rescales to the L1 norm: take its masked updates without that, divide each entry by
    # its own probability of being kept, and let mergekit elect the signs and average
    inputs, deltas = random_input(count, seed)
    drop, epsilon = window
    with pytest.MonkeyPatch.context() as patch:
        draw_with(patch, uniform_numbers(inputs, MODULE))
        masked = [sparsify(d, 1 - drop, SparsificationMethod.della_magprune, epsilon=epsilon) for d in deltas]
    rescaled = [update / (1 - drop_by_rank(d, drop, epsilon)) for update, d in zip(masked, deltas, strict=True)]
    expected = mergekit("ties", rescaled, normalize=True, density=1.0)
    merged = della(inputs, DellaSettings(drop=drop, epsilon=epsilon, scale=1.0)).state.modules[MODULE]
    torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 40), st.sampled_from([(0.3, 0.07), (0.5, 0.5 - 1e-3), (0.2, 0.0)]), st.integers(0, 999))
def test_the_probabilities_of_a_row(width: int, window: tuple[float, float], seed: int) -> None:
    drop, epsilon = window
    values = torch.randn(3, width, generator=torch.Generator().manual_seed(seed))
    probabilities = drop_by_rank(values, drop, epsilon)
    torch.testing.assert_close(probabilities.mean(dim=1), torch.full((3,), drop))
    by_size = probabilities.gather(1, values.abs().argsort(dim=1))
    assert (by_size.diff(dim=1) <= 1e-6).all()
    torch.testing.assert_close(by_size[:, [0, -1]], torch.tensor([[drop + epsilon, drop - epsilon]]).expand(3, 2))


def test_the_mean_over_seeds_is_the_undropped_update() -> None:
    # beside an expert that changed nothing every sign is elected by the other, so that only the drop is left
    count, delta = 2000, torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    experts, config = experts_of(delta, torch.zeros(3, 4)), DellaSettings(drop=0.5, epsilon=0.3, scale=1.0)
    merged = sum(della(MergeInput(experts, "delta", seed), config).state.modules[MODULE] for seed in range(count))
    drop = drop_by_rank(delta, config.drop, config.epsilon)
    deviation = (drop / (1 - drop) / count).sqrt() * delta.abs()  # of a mean of Bernoulli draws over 1 - p
    assert ((merged / count - delta).abs() < 4 * deviation).all()


def test_without_a_window_it_is_dare_with_ties() -> None:
    inputs = MergeInput(make_experts(3), "delta", seed=4)
    merged = della(inputs, DellaSettings(drop=0.4, epsilon=0.0, scale=1.5)).state
    expected = dense(dare(inputs, DareSettings(drop=0.4, then="ties", scale=1.5)).state)
    assert distance(merged, expected) < 1e-6


@pytest.mark.parametrize(("drop", "epsilon"), [(0.1, 0.2), (0.9, 0.1), (0.5, -0.1), (float("nan"), 0.1)])
def test_a_window_outside_the_probabilities_is_refused(drop: float, epsilon: float) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"method.drop={drop} and method.epsilon={epsilon}")):
        DellaSettings(drop=drop, epsilon=epsilon)
