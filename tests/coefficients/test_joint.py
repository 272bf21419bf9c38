"""Joint coefficients against hand-worked numbers, and at the edge of what floats can hold."""

from __future__ import annotations

import pytest
import torch

from esmerge.coefficients.joint import joint_coefficients


def test_by_hand() -> None:
    # entry 0: 0.25 * 0.5 against 0.75 * 0.5 -> 1/4, 3/4
    # entry 1: 0.25 * 0.9 = 0.225 against 0.75 * 0.1 = 0.075 -> 3/4, 1/4
    found = joint_coefficients(torch.tensor([0.25, 0.75]), torch.tensor([[0.5, 0.9], [0.5, 0.1]]))
    torch.testing.assert_close(found, torch.tensor([[0.25, 0.75], [0.75, 0.25]]))


def test_equal_layer_coefficients_leave_the_element_wise_ones() -> None:
    beta = torch.softmax(torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0)), dim=0)
    torch.testing.assert_close(joint_coefficients(torch.full((4,), 0.25), beta), beta)


def test_one_hot_layer_coefficients_decide() -> None:
    beta = torch.softmax(torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(0)), dim=0)
    found = joint_coefficients(torch.tensor([0.0, 1.0, 0.0]), beta)
    assert torch.equal(found, torch.stack([torch.zeros(2, 2), torch.ones(2, 2), torch.zeros(2, 2)]))


@pytest.mark.parametrize("small", [1e-30, 1e-38, 0.0])
def test_products_below_the_smallest_float_still_sum_to_one(small: float) -> None:
    found = joint_coefficients(torch.tensor([1.0, small]), torch.tensor([[small], [1.0]]))
    torch.testing.assert_close(found, torch.tensor([[0.5], [0.5]]), rtol=1e-3, atol=0)
    torch.testing.assert_close(found.sum(dim=0), torch.ones(1))
