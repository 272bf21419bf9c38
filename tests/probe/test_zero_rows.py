"""Linear maps that leave out positions without a gradient, against torch's own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from src.probe.zero_rows import SkippingZeroRows


def gradients(kept: list[bool], bias: bool, seed: int, skipping: bool) -> list[Tensor]:
    """Output and gradients by input, weight and bias of a loss that looks at the kept positions."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(2, len(kept), 3), (4, 3), *([(4,)] if bias else [])]
    leaves = [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]
    if skipping:
        with SkippingZeroRows():
            found = functional.linear(*leaves)
    else:
        found = functional.linear(*leaves)
    loss = found[:, torch.tensor(kept)].square().sum()
    return [found, *torch.autograd.grad(loss, leaves)]


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.booleans(), st.integers(0, 99))
def test_the_gradients_are_those_of_the_dense_map(kept: list[bool], bias: bool, seed: int) -> None:
    for ours, theirs in zip(gradients(kept, bias, seed, True), gradients(kept, bias, seed, False), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("needed", [(True, False), (False, True)])
def test_one_gradient_alone(needed: tuple[bool, bool]) -> None:
    input, weight = (torch.randn(5, 5).requires_grad_(flag) for flag in needed)
    with SkippingZeroRows():
        functional.linear(input, weight=weight)[1].sum().backward()
    assert [input.grad is not None, weight.grad is not None] == list(needed)


def test_a_vector_is_one_position() -> None:
    input, weight = torch.randn(3).requires_grad_(), torch.randn(4, 3)
    with SkippingZeroRows():
        found = functional.linear(input, weight)
    assert found.shape == (4,)
    assert torch.allclose(torch.autograd.grad(found.sum(), input)[0], weight.sum(dim=0))


def test_infinities_and_nan_are_not_left_out() -> None:
    input, weight = torch.randn(9, 3).requires_grad_(), torch.randn(4, 3)
    with SkippingZeroRows():
        found = functional.linear(input, weight)
    above = torch.zeros(9, 4)
    above[1], above[2] = float("nan"), float("inf")
    gradient = torch.autograd.grad(found, input, above)[0]
    assert gradient[1].isnan().all() and not gradient[2].isfinite().any() and not gradient[3:].any()


@pytest.mark.parametrize(("kept", "positions"), [(0, 0), (2, 2), (7, 7), (8, 10), (10, 10)])
def test_only_positions_with_a_gradient_are_multiplied(kept: int, positions: int) -> None:
    input, weight = torch.randn(10, 3).requires_grad_(), torch.randn(4, 3)
    with SkippingZeroRows():
        found = functional.linear(input, weight)
    with FlopCounterMode(display=False) as counter:
        torch.autograd.grad(found[:kept].sum(), input)
    assert counter.get_total_flops() == 2 * positions * 3 * 4
