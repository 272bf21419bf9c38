"""Factors of merged updates: lossless stacking, optimal truncation, and an honest residual."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.merging.ops.low_rank import SMALL, Factored, assemble, common_base, common_dtype, factorise, shorten, stack


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_stack_by_hand() -> None:
    # 0.5 * (2 * [3] @ [[1, 0]]) + 1 * (1 * [4] @ [[0, 5]]) = [[3, 0]] + [[0, 20]]
    first = LoraFactors(torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0]]), 2.0)
    second = LoraFactors(torch.tensor([[0.0, 5.0]]), torch.tensor([[4.0]]), 1.0)
    stacked = stack([(0.5, first), (1.0, second)], torch.float32)
    assert stacked.rank == 2
    torch.testing.assert_close(stacked.delta(), torch.tensor([[3.0, 20.0]]))


def test_stack_of_weight_one_and_zeros_is_the_part_itself() -> None:
    first, second = (LoraFactors(draw(2, 4, seed=i), draw(3, 2, seed=i + 9), 2.0 + i) for i in range(2))
    stacked = stack([(0.0, first), (1.0, second)], torch.float32)
    assert torch.equal(stacked.a, second.a) and torch.equal(stacked.b, second.b) and stacked.scale == second.scale


def test_stack_of_zeros_is_zero() -> None:
    factors = LoraFactors(draw(2, 4), draw(3, 2), 2.0)
    assert torch.equal(stack([(0.0, factors), (0.0, factors)], torch.float32).delta(), torch.zeros(3, 4))


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 12), st.integers(2, 12), st.integers(1, 12), st.integers(0, 999))
def test_truncation_is_the_best_there_is_and_says_what_it_lost(height: int, width: int, rank: int, seed: int) -> None:
    delta = draw(height, width, seed=seed)
    values = np.linalg.svd(delta.double().numpy(), compute_uv=False)
    best = np.sqrt((values[rank:] ** 2).sum())  # Eckart-Young
    truncation = factorise(delta, rank, torch.float32)
    assert truncation.factors.rank == min(rank, height, width)
    assert float((truncation.factors.delta() - delta).norm()) == pytest.approx(best, abs=1e-5)
    assert (truncation.lost / truncation.norm) ** 0.5 == pytest.approx(best / np.linalg.norm(values), abs=1e-5)


def test_the_reported_loss_includes_rounding_to_half_precision() -> None:
    delta = draw(6, 2) @ draw(2, 5, seed=1)
    truncation = factorise(delta, 2, torch.bfloat16)
    residual = float((truncation.factors.b.float() @ truncation.factors.a.float() - delta).square().sum())
    assert truncation.lost == pytest.approx(residual, rel=1e-3)
    assert truncation.lost > 0


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 10), st.integers(1, 10), st.integers(1, 14), st.integers(1, 14), st.integers(0, 999))
def test_shortening_a_stack_equals_truncating_its_dense_update(
    height: int, width: int, stacked: int, rank: int, seed: int
) -> None:
    factors = LoraFactors(draw(stacked, width, seed=seed), draw(height, stacked, seed=seed + 1), 1.5)
    values = np.linalg.svd(factors.delta().double().numpy(), compute_uv=False)
    truncation = shorten(factors, rank, torch.float32)
    assert truncation.factors.rank <= rank
    error = float((truncation.factors.delta() - factors.delta()).norm())
    assert error == pytest.approx(np.sqrt((values[rank:] ** 2).sum()), abs=1e-4)
    assert truncation.lost**0.5 == pytest.approx(error, abs=1e-4)


def test_a_large_update_is_truncated_as_well_without_a_full_decomposition() -> None:
    noise = draw(SMALL + 90, SMALL + 8, seed=3)
    delta = draw(SMALL + 90, 4) @ draw(4, SMALL + 8, seed=1) + 0.05 * noise
    values = torch.linalg.svdvals(delta)
    for rank in (2, 4):
        truncation = factorise(delta, rank, torch.float32)
        assert truncation.factors.rank == rank
        assert truncation.lost**0.5 == pytest.approx(float(values[rank:].square().sum().sqrt()), rel=1e-3)


def test_a_zero_update_has_zero_factors() -> None:
    truncation = factorise(torch.zeros(3, 4), 1, torch.float32)
    assert truncation.factors.rank == 1 and torch.equal(truncation.factors.delta(), torch.zeros(3, 4))


def test_notes_pool_the_residual_over_modules() -> None:
    # one module loses 3 of 4 in squared norm, the other nothing of 12: sqrt(3 / 16)
    factors = LoraFactors(draw(1, 4), draw(3, 1), 1.0)
    state = assemble({"e": LoraState({})}, {"m": Factored(factors, 3.0, 4.0), "n": Factored(factors, 0.0, 12.0)})
    assert state.notes == {"svd_relative_residual": pytest.approx((3 / 16) ** 0.5)}
    assert assemble({"e": LoraState({})}, {"m": Factored(factors)}).notes == {}


def test_common_base_and_dtype() -> None:
    factors = LoraFactors(draw(1, 4), draw(3, 1), 1.0)
    half = LoraFactors(factors.a.bfloat16(), factors.b.bfloat16(), 1.0)
    a, b = LoraState({"m": factors}, "llama"), LoraState({"m": half}, "llama")
    assert common_dtype({"b": b}) == torch.bfloat16 and common_dtype({"a": a, "b": b}) == torch.float32
    assert common_base({"a": a, "b": b}) == "llama"
    assert common_base({"a": a, "b": LoraState({"m": half}, "qwen")}) is None
