"""Layer-wise coefficients against hand-worked numbers and the properties of the formulas."""

from __future__ import annotations

import math

import pytest
import torch

from esmerge.coefficients.layer import increments, layer_coefficients, zscore


def test_increments_by_hand() -> None:
    assert increments(torch.tensor([[1.0, 3.0, 2.0]])).tolist() == [[1.0, 2.0, -1.0]]


def test_zscore_by_hand() -> None:
    # mean 3, population variance (4 + 0 + 4) / 3
    root = math.sqrt(8 / 3)
    torch.testing.assert_close(zscore(torch.tensor([1.0, 3.0, 5.0]), (0,)), torch.tensor([-2 / root, 0, 2 / root]))


@pytest.mark.parametrize("value", [0.0, 0.1, 1e-40, -3e30])
def test_zscore_of_equal_values_is_zero(value: float) -> None:
    assert torch.equal(zscore(torch.full((2, 37), value), (1,)), torch.zeros(2, 37))


@pytest.mark.parametrize("unit", [1e-30, 1e30])
def test_zscore_does_not_depend_on_the_unit(unit: float) -> None:
    values = torch.tensor([1.0, 3.0, 5.0, 11.0])
    torch.testing.assert_close(zscore(values * unit, (0,)), zscore(values, (0,)))


def test_layer_coefficients_by_hand() -> None:
    # expert 0: D = (1, 3) -> increments (1, 2) -> z (-1, 1); other modality D = (2, 3) -> (2, 1) -> z (1, -1)
    # expert 1: D = (1, 2) -> (1, 1) -> z (0, 0) on modality 0; its own D = (1, 4) -> (1, 3) -> z (-1, 1)
    distances = torch.tensor([[[1.0, 3.0], [2.0, 3.0]], [[1.0, 2.0], [1.0, 4.0]]])
    # a = 1: g = (0, 0) and (-1, 1); T = 0.5: softmax of (0, -2) and of (0, 2)
    first, second = 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2))
    expected = torch.tensor([[first, second], [1 - first, 1 - second]], dtype=torch.float64)
    torch.testing.assert_close(layer_coefficients(distances, (0, 1), 1.0, 0.5), expected)
    # a = 0: g = (-1, 1) for both experts, so they share every layer
    torch.testing.assert_close(layer_coefficients(distances, (0, 1), 0.0, 0.5), torch.full_like(expected, 0.5))
