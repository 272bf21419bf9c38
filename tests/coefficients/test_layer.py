"""Layer-wise coefficients against hand-worked numbers, POT and the properties of the formulas."""

from __future__ import annotations

import math
from dataclasses import replace

import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.coefficients import layer as module
from src.coefficients.layer import (
    increments,
    layer_coefficients,
    layer_distances,
    sliced_wasserstein,
    standardise,
    unit_directions,
    zscore,
)
from src.coefficients.signals import Granularity, Signals
from src.errors import InputError

SETTINGS = Granularity("layer", projections=16)


def make_signals(experts: int = 2, modalities: int = 2, layers: int = 3, seed: int = 0) -> Signals:
    torch.manual_seed(seed)
    names = tuple(f"e{i}" for i in range(experts))
    kinds = tuple(f"m{i}" for i in range(modalities))
    backbone = {kind: torch.randn(layers, 6, 5) for kind in kinds}
    responses = {name: {kind: backbone[kind] + torch.randn(layers, 6, 5) for kind in kinds} for name in names}
    return Signals(names, kinds, tuple(i % modalities for i in range(experts)), backbone, responses, {})


def test_directions_are_seeded_unit_vectors() -> None:
    directions = unit_directions(7, 50, seed=3)
    assert directions.shape == (50, 7)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(50, dtype=torch.float64))
    assert torch.equal(directions, unit_directions(7, 50, seed=3))
    assert not torch.equal(directions, unit_directions(7, 50, seed=4))
    # uniform on the sphere: the mean of 20,000 directions is within 5 / sqrt(20,000 * 7) of zero in each coordinate
    assert unit_directions(7, 20_000, seed=0).mean(dim=0).abs().max() < 5 / math.sqrt(20_000 * 7)


def test_standardise_by_hand() -> None:
    # rows 0, 2, 4, 6: mean 3, population variance (9 + 1 + 1 + 9) / 4 = 5
    x, y = standardise(torch.tensor([[0.0], [2.0]]), torch.tensor([[4.0], [6.0]]))
    root = math.sqrt(5)
    torch.testing.assert_close(x, torch.tensor([[-3 / root], [-1 / root]]))
    torch.testing.assert_close(y, torch.tensor([[1 / root], [3 / root]]))


def test_constant_feature_is_only_centred() -> None:
    # 0.1 is not representable: the rounded mean of equal values may differ from them, the result must still be about 0
    x, y = standardise(torch.full((33, 1), 0.1), torch.full((33, 1), 0.1))
    assert torch.cat([x, y]).abs().max() < 1e-7


def test_sliced_wasserstein_by_hand() -> None:
    # along (1): sorted 0, 3 against 1, 5: gaps 1 and 2. Along (-1) the same gaps.
    # p = 2: sqrt((1 + 4) / 2); p = 1: (1 + 2) / 2
    x, y = torch.tensor([[3.0], [0.0]]), torch.tensor([[1.0], [5.0]])
    directions = torch.tensor([[1.0], [-1.0]])
    assert sliced_wasserstein(x, y, directions, 2.0).item() == pytest.approx(math.sqrt(2.5))
    assert sliced_wasserstein(x, y, directions, 1.0).item() == pytest.approx(1.5)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 6), st.integers(1, 300), st.sampled_from([1.0, 2.0, 3.0]), st.integers(0, 999))
def test_sliced_wasserstein_agrees_with_pot(rows: int, width: int, projections: int, power: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y = standardise(*torch.randn(2, rows, width, generator=generator, dtype=torch.float64))
    directions = unit_directions(width, projections, seed)
    expected = ot.sliced_wasserstein_distance(x.numpy(), y.numpy(), projections=directions.T.numpy(), p=power)
    assert sliced_wasserstein(x, y, directions, power).item() == pytest.approx(expected, rel=1e-9)


def test_distance_ignores_the_order_of_samples() -> None:
    torch.manual_seed(0)
    x, y, directions = torch.randn(8, 4), torch.randn(8, 4), unit_directions(4, 12, seed=0)
    moved = sliced_wasserstein(x[torch.randperm(8)], y[torch.randperm(8)], directions, 2.0)
    torch.testing.assert_close(moved, sliced_wasserstein(x, y, directions, 2.0))


def test_different_sample_counts_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(3, 2\) and \(4, 2\)"):
        sliced_wasserstein(torch.zeros(3, 2), torch.zeros(4, 2), unit_directions(2, 3, seed=0), 2.0)


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


def test_distances_have_one_value_per_expert_modality_and_layer() -> None:
    assert layer_distances(make_signals(3, 2, 4), SETTINGS, seed=0).shape == (3, 2, 4)
    assert layer_distances(make_signals(2, 1, 4), SETTINGS, seed=0).shape == (2, 1, 4)


def test_all_experts_modalities_and_layers_share_directions() -> None:
    signals = make_signals(2, 2, 3)
    same = signals.responses["e0"]["m0"][:1].expand(3, -1, -1)
    base = signals.backbone["m0"][:1].expand(3, -1, -1)
    copies = replace(
        signals,
        backbone=dict.fromkeys(signals.modalities, base),
        responses=dict.fromkeys(signals.experts, dict.fromkeys(signals.modalities, same)),
    )
    distances = layer_distances(copies, SETTINGS, seed=0)
    torch.testing.assert_close(distances, distances[:1, :1, :1].expand_as(distances), rtol=1e-6, atol=0)


def test_an_untouched_layer_has_distance_zero() -> None:
    signals = make_signals()
    still = replace(signals, responses={name: dict(signals.backbone) for name in signals.experts})
    assert torch.equal(layer_distances(still, SETTINGS, seed=0), torch.zeros(2, 2, 3))


def test_blocks_do_not_change_the_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = layer_distances(make_signals(), SETTINGS, seed=0)
    monkeypatch.setattr(module, "VALUES_AT_ONCE", 1)
    monkeypatch.setattr(module, "DIRECTIONS_AT_ONCE", 3)
    torch.testing.assert_close(layer_distances(make_signals(), SETTINGS, seed=0), whole)


def test_half_precision_responses_are_computed_in_single() -> None:
    signals = make_signals()
    half = replace(
        signals,
        backbone={k: v.bfloat16() for k, v in signals.backbone.items()},
        responses={n: {k: v.bfloat16() for k, v in own.items()} for n, own in signals.responses.items()},
    )
    rounded = replace(
        half,
        backbone={k: v.float() for k, v in half.backbone.items()},
        responses={n: {k: v.float() for k, v in own.items()} for n, own in half.responses.items()},
    )
    assert torch.equal(layer_distances(half, SETTINGS, 0), layer_distances(rounded, SETTINGS, 0))


def test_missing_or_broken_responses_are_refused_by_name() -> None:
    signals = make_signals()
    with pytest.raises(InputError, match="expert 'e1' has no responses for modality 'm0'"):
        layer_distances(replace(signals, responses={"e0": signals.responses["e0"]}), SETTINGS, 0)
    with pytest.raises(InputError, match="backbone has no responses for modality 'm1'"):
        layer_distances(replace(signals, backbone={"m0": signals.backbone["m0"]}), SETTINGS, 0)
    broken = {**signals.responses, "e0": {**signals.responses["e0"], "m1": torch.full((3, 6, 5), math.nan)}}
    with pytest.raises(InputError, match="expert 'e0' has NaN or infinite responses for modality 'm1'"):
        layer_distances(replace(signals, responses=broken), SETTINGS, 0)
    short = {**signals.responses, "e0": {**signals.responses["e0"], "m1": torch.zeros(2, 6, 5)}}
    with pytest.raises(InputError, match=r"backbone \(3, 6, 5\), expert \(2, 6, 5\)"):
        layer_distances(replace(signals, responses=short), SETTINGS, 0)
