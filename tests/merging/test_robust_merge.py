"""RobustMerge against hand-worked numbers and a NumPy version of its formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.merging.builders import make_experts

from esmerge.adapters.lora import LoraState
from esmerge.core.errors import ConfigError
from esmerge.merging.api import MergeInput
from esmerge.merging.methods.robust_merge import (
    RobustMergeSettings,
    compensation,
    merge_factors,
    prune,
    raise_low,
    robust_merge,
)


def test_prune_by_hand() -> None:
    # half of four entries of each expert stay: the two largest in magnitude
    stacked = torch.tensor([[[1.0, -4], [2, 0]], [[-1, 5], [0, -6]]])
    assert prune(stacked, 0.5).tolist() == [[[0, -4], [2, 0]], [[0, 5], [0, -6]]]
    assert torch.equal(prune(stacked, 1.0), stacked)
    assert int((prune(stacked, 0.01) != 0).sum()) == 2, "at least one entry of each stays"


def test_compensation_by_hand() -> None:
    # the first row kept 4 of 5, the second all of 2, the third nothing of 3: nothing to compensate there
    before = torch.tensor([[[1.0, -4], [2, 0], [-1, 2]]])
    after = torch.tensor([[[0.0, -4], [2, 0], [0, 0]]])
    assert compensation(before, after).tolist() == [[1.25, 1, 1]]


def test_raise_low_by_hand() -> None:
    # of five values the largest 40 % are two: the others become the smaller of these
    values = torch.tensor([[1.0, 3, 2, 5, 4], [9, 1, 1, 1, 8]])
    assert raise_low(values, 0.4).tolist() == [[4, 4, 4, 5, 4], [9, 8, 8, 8, 8]]
    assert torch.equal(raise_low(values, 1.0), values)
    assert raise_low(values, 1e-20).tolist() == [[5] * 5, [9] * 5]


def test_by_hand() -> None:
    # keep half, every S counts, λ = 4 (each factor times 2)
    # x: A (1, 3 | 4, 2) -> (0, 3 | 4, 0), S = 4/3, 3/2    y: A (5, 5 | 0, 1) -> (5, 5 | 0, 0), S = 1, 1 (row gone)
    # x: B (6, 1 | 7, 2) -> (6, 0 | 7, 0)                  y: B (1, 8 | 2, 9) -> (0, 8 | 0, 9)
    a = torch.tensor([[[1.0, 3], [4, 2]], [[5, 5], [0, 1]]])
    b = torch.tensor([[[6.0, 1], [7, 2]], [[1, 8], [2, 9]]])
    factors = merge_factors(a, b, RobustMergeSettings(scale=4.0, keep=0.5, rescaled=1.0))
    first, second = (4 / 3) / (4 / 3 + 1), 1 / (3 / 2 + 1)
    torch.testing.assert_close(factors[0], 2 * torch.tensor([[5.0, 8], [4, 0]]))
    torch.testing.assert_close(factors[1], 2 * torch.tensor([[6 * first, 8 * second], [7 * first, 9 * second]]))


def test_without_pruning_it_is_the_sum_of_a_and_the_mean_of_b() -> None:
    experts = make_experts(3)
    merged = robust_merge(MergeInput(experts, "factors"), RobustMergeSettings(scale=1.0, keep=1.0)).state
    assert isinstance(merged, LoraState)
    for module, factors in merged.modules.items():
        parts = [state.modules[module] for state in experts.values()]
        torch.testing.assert_close(factors.a, torch.stack([part.a for part in parts]).sum(dim=0))
        torch.testing.assert_close(factors.b, torch.stack([part.b for part in parts]).mean(dim=0))
        assert factors.scale == 2.0


def reference(a: np.ndarray, b: np.ndarray, keep: float, rescaled: float) -> tuple[np.ndarray, np.ndarray]:
    """Both factors, each times 2, one expert at a time, from the formulas of the method."""
    sums, weighted, total = np.zeros_like(a[0]), np.zeros_like(b[0]), np.zeros(a.shape[1])
    for own_a, own_b in zip(a, b, strict=True):
        cut_a, cut_b = (
            np.where(
                np.abs(factor) >= np.sort(np.abs(factor), axis=None)[factor.size - round(keep * factor.size)], factor, 0
            )
            for factor in (own_a, own_b)
        )
        s = np.abs(own_a).sum(axis=1) / np.abs(cut_a).sum(axis=1)
        s = np.maximum(s, np.sort(s)[int(len(s) * (1 - rescaled))])
        sums, weighted, total = sums + 2 * cut_a, weighted + 2 * cut_b * s, total + s
    return sums, weighted / total


@settings(max_examples=20, deadline=None)
@given(
    count=st.integers(2, 5),
    rank=st.integers(1, 8),
    keep=st.sampled_from([0.2, 0.5, 1.0]),
    rescaled=st.sampled_from([0.2, 0.5, 1.0]),
    seed=st.integers(0, 999),
)
def test_agrees_with_the_formulas(count: int, rank: int, keep: float, rescaled: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)  # rows of 60 never lose all of their entries
    a = torch.randn(count, rank, 60, generator=generator, dtype=torch.float64)
    b = torch.randn(count, 12, rank, generator=generator, dtype=torch.float64)
    factors = merge_factors(a, b, RobustMergeSettings(keep=keep, rescaled=rescaled))
    expected = reference(a.numpy(), b.numpy(), keep, rescaled)
    torch.testing.assert_close(factors[0], torch.from_numpy(expected[0]))
    torch.testing.assert_close(factors[1], torch.from_numpy(expected[1]))


@pytest.mark.parametrize("name", ["keep", "rescaled"])
@pytest.mark.parametrize("value", [0.0, 1.5, -0.2, float("nan")])
def test_shares_are_checked(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"method.{name}={value} must be greater than 0 and at most 1"):
        RobustMergeSettings(**{name: value})


def test_scale_is_checked() -> None:
    with pytest.raises(ConfigError, match="method.scale=-1"):
        RobustMergeSettings(scale=-1)
