"""The page of formulas against hand-worked numbers, POT and NumPy, and what must hold for any numbers."""

from __future__ import annotations

import math

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.coefficients import oracle
from tests.coefficients.signals import make_directions
from torch import Tensor

from esmerge.coefficients.formulas import (
    element_coefficients,
    increments,
    joint_coefficients,
    layer_coefficients,
    layer_gains,
    sliced_wasserstein,
    standardise,
    transport_costs,
    unit_directions,
    zscore,
)
from esmerge.core.errors import InputError


def distance(x: Tensor, y: Tensor, directions: Tensor, power: float) -> Tensor:
    """The distance as the page has it: costs, their mean over directions, the root."""
    return sliced_wasserstein(transport_costs(x, y, directions, power).mean(dim=-1), power)


# Directions, standardisation, distance


def test_directions_are_seeded_unit_vectors() -> None:
    directions = make_directions(7, 50, seed=3)
    assert directions.shape == (50, 7)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(50, dtype=torch.float64))
    assert torch.equal(directions, make_directions(7, 50, seed=3))
    assert not torch.equal(directions, make_directions(7, 50, seed=4))
    # uniform on the sphere: the mean of 20,000 directions is within 5 / sqrt(20,000 * 7) of zero in each coordinate
    assert make_directions(7, 20_000, seed=0).mean(dim=0).abs().max() < 5 / math.sqrt(20_000 * 7)


def test_directions_go_on_where_the_generator_stands() -> None:
    generator = torch.Generator().manual_seed(3)
    first, second = (unit_directions(4, 16, generator) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(torch.cat([first, second]), make_directions(4, 32, seed=3))


def test_standardise_by_hand() -> None:
    # rows 0, 2, 4, 6: mean 3, population variance (9 + 1 + 1 + 9) / 4 = 5
    x, y = standardise(torch.tensor([[0.0], [2.0]]), torch.tensor([[4.0], [6.0]]))
    root = math.sqrt(5)
    torch.testing.assert_close(x, torch.tensor([[-3 / root], [-1 / root]]))
    torch.testing.assert_close(y, torch.tensor([[1 / root], [3 / root]]))


def test_standardise_leaves_its_arguments_as_they_are() -> None:
    x, y = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    copies = x.clone(), y.clone()
    standardise(x, y)
    assert torch.equal(x, copies[0]) and torch.equal(y, copies[1])


def test_constant_feature_is_only_centred() -> None:
    # 0.1 is not representable: the rounded mean of equal values may differ from them, the result must still be about 0
    x, y = standardise(torch.full((33, 1), 0.1), torch.full((33, 1), 0.1))
    assert torch.cat([x, y]).abs().max() < 1e-7


def test_transport_costs_and_distance_by_hand() -> None:
    # along (1): sorted 0, 3 against 1, 5: gaps 1 and 2. Along (-1) the same gaps.
    # p = 2: mean (1 + 4) / 2, root sqrt(2.5); p = 1: (1 + 2) / 2
    x, y = torch.tensor([[3.0], [0.0]]), torch.tensor([[1.0], [5.0]])
    directions = torch.tensor([[1.0], [-1.0]])
    assert transport_costs(x, y, directions, 2.0).tolist() == [2.5, 2.5]
    assert transport_costs(x, y, directions, 1.0).tolist() == [1.5, 1.5]
    assert distance(x, y, directions, 2.0).item() == pytest.approx(math.sqrt(2.5))
    assert distance(x, y, directions, 1.0).item() == pytest.approx(1.5)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 6), st.integers(1, 300), st.sampled_from([1.0, 2.0, 3.0]), st.integers(0, 999))
def test_distance_agrees_with_pot_and_numpy(rows: int, width: int, projections: int, power: float, seed: int) -> None:
    x, y = torch.randn(2, rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    directions = make_directions(width, projections, seed)
    value = distance(*standardise(x, y), directions, power).item()
    scaled = oracle.standardise(x.numpy(), y.numpy())
    expected = ot.sliced_wasserstein_distance(*scaled, projections=directions.T.numpy(), p=power)
    assert value == pytest.approx(expected, rel=1e-9)
    assert value == pytest.approx(oracle.distance(x.numpy(), y.numpy(), directions.numpy(), power), rel=1e-9)


def test_distance_ignores_the_order_of_samples() -> None:
    torch.manual_seed(0)
    x, y, directions = torch.randn(8, 4), torch.randn(8, 4), make_directions(4, 12, seed=0).float()
    shuffled = distance(x[torch.randperm(8)], y[torch.randperm(8)], directions, 2.0)
    torch.testing.assert_close(shuffled, distance(x, y, directions, 2.0))


def test_different_sample_counts_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(3, 2\) and \(4, 2\)"):
        transport_costs(torch.zeros(3, 2), torch.zeros(4, 2), make_directions(2, 3, seed=0).float(), 2.0)


# Layer-wise


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


def test_layer_gains_by_hand() -> None:
    # two experts, three modalities, one layer; expert 0 owns modality 2, expert 1 modality 0
    z = torch.tensor([[[1.0], [2.0], [4.0]], [[8.0], [16.0], [32.0]]])
    assert layer_gains(z, (2, 0), 0.5).tolist() == [[4 + 0.5 * 3], [8 + 0.5 * 48]]
    assert layer_gains(z, (2, 0), 0.0).tolist() == [[4.0], [8.0]]


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


# Element-wise


def test_element_coefficients_by_hand() -> None:
    # expert 0: scores (1, 3) -> z (-1, 1); expert 1: scores (5, 5) -> z (0, 0); tau 0.5: softmax of (-2, 0) and (2, 0)
    beta = element_coefficients(torch.tensor([[1.0, 3.0], [5.0, 5.0]]), tau=0.5)
    first, second = 1 / (1 + math.exp(2)), 1 / (1 + math.exp(-2))
    torch.testing.assert_close(beta, torch.tensor([[first, second], [1 - first, 1 - second]]))


def test_each_expert_is_standardised_by_itself() -> None:
    torch.manual_seed(0)
    scores = torch.rand(3, 4, 5)
    rescaled = scores * torch.tensor([1.0, 1000.0, 1e-9]).reshape(3, 1, 1)
    torch.testing.assert_close(element_coefficients(rescaled, 0.1), element_coefficients(scores, 0.1))


def test_extreme_scores_still_sum_to_one() -> None:
    scores = torch.zeros(2, 200, 200)
    scores[0, 0, 0], scores[1, 1, 1] = 1e30, 1e-30
    beta = element_coefficients(scores, tau=0.01)
    assert torch.isfinite(beta).all()
    torch.testing.assert_close(beta.sum(dim=0), torch.ones(200, 200))
    assert beta[0, 0, 0] == 1 and beta[1, 1, 1] == 1


def test_half_precision_scores_are_upcast() -> None:
    scores = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert torch.equal(element_coefficients(scores, 0.1), element_coefficients(scores.float(), 0.1))


# Joint


def test_joint_coefficients_by_hand() -> None:
    # entry 0: 0.25 * 0.5 against 0.75 * 0.5 -> 1/4, 3/4
    # entry 1: 0.25 * 0.9 = 0.225 against 0.75 * 0.1 = 0.075 -> 3/4, 1/4
    joint = joint_coefficients(torch.tensor([0.25, 0.75]), torch.tensor([[0.5, 0.9], [0.5, 0.1]]))
    torch.testing.assert_close(joint, torch.tensor([[0.25, 0.75], [0.75, 0.25]]))


def test_equal_layer_coefficients_leave_the_element_wise_ones() -> None:
    beta = torch.softmax(torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0)), dim=0)
    torch.testing.assert_close(joint_coefficients(torch.full((4,), 0.25), beta), beta)


def test_one_hot_layer_coefficients_decide() -> None:
    beta = torch.softmax(torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(0)), dim=0)
    joint = joint_coefficients(torch.tensor([0.0, 1.0, 0.0]), beta)
    assert torch.equal(joint, torch.stack([torch.zeros(2, 2), torch.ones(2, 2), torch.zeros(2, 2)]))


@pytest.mark.parametrize("small", [1e-30, 1e-38, 0.0])
def test_products_below_the_smallest_float_still_sum_to_one(small: float) -> None:
    joint = joint_coefficients(torch.tensor([1.0, small]), torch.tensor([[small], [1.0]]))
    torch.testing.assert_close(joint, torch.tensor([[0.5], [0.5]]), rtol=1e-3, atol=0)
    torch.testing.assert_close(joint.sum(dim=0), torch.ones(1))


# What holds for any number of experts, modalities and layers

SIZES = st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 8))
ANY_NUMBERS = st.builds(lambda seed: torch.Generator().manual_seed(seed), st.integers(0, 10_000))


@settings(max_examples=40, deadline=None)
@given(SIZES, ANY_NUMBERS, st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.3, 0.5, 2.0]))
def test_layer_coefficients_agree_with_numpy(
    sizes: tuple[int, int, int], generator: torch.Generator, cross_weight: float, temperature: float
) -> None:
    distances = torch.rand(*sizes, generator=generator, dtype=torch.float64)
    own = tuple(torch.randint(sizes[1], (sizes[0],), generator=generator).tolist())
    expected = oracle.alpha_from_distances(distances.numpy(), own, cross_weight, temperature)
    np.testing.assert_allclose(layer_coefficients(distances, own, cross_weight, temperature), expected, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(SIZES, ANY_NUMBERS, st.sampled_from([0.1, 0.5, 2.0]))
def test_element_wise_and_joint_coefficients_agree_with_numpy(
    sizes: tuple[int, int, int], generator: torch.Generator, tau: float
) -> None:
    scores = torch.rand(*sizes, generator=generator, dtype=torch.float64)
    alpha = torch.softmax(torch.randn(sizes[0], generator=generator, dtype=torch.float64), dim=0)
    beta = element_coefficients(scores, tau)
    np.testing.assert_allclose(beta, oracle.beta(scores.numpy(), tau), atol=1e-9)
    np.testing.assert_allclose(
        joint_coefficients(alpha, beta), oracle.joint(alpha.numpy(), beta.numpy()), rtol=1e-9, atol=1e-15
    )


@settings(max_examples=40, deadline=None)
@given(SIZES, ANY_NUMBERS, st.sampled_from([1e-3, 0.1, 1.0, 100.0]), st.sampled_from([1e-20, 1.0, 1e20]))
def test_coefficients_are_shares_in_any_order_of_experts(
    sizes: tuple[int, int, int], generator: torch.Generator, temperature: float, unit: float
) -> None:
    distances = torch.rand(*sizes, generator=generator) * unit
    scores = torch.rand(*sizes, generator=generator) * unit
    own = torch.randint(sizes[1], (sizes[0],), generator=generator)
    order = torch.randperm(sizes[0], generator=generator)

    def all_coefficients(experts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        alpha = layer_coefficients(distances[experts], own[experts].tolist(), 1.0, temperature)
        beta = element_coefficients(scores[experts], temperature)
        return alpha, beta, joint_coefficients(alpha[:, -1], beta)

    reordered = all_coefficients(order)
    for weights, permuted in zip(all_coefficients(torch.arange(sizes[0])), reordered, strict=True):
        assert (weights >= 0).all()
        torch.testing.assert_close(weights.sum(dim=0), torch.ones_like(weights[0]))
        torch.testing.assert_close(permuted, weights[order])
