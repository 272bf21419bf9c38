"""Distances of all experts, modalities and layers: shared directions, blocks, resamples, refusals."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from esmerge.coefficients.distances import along, bootstrapped, layer_distances
from esmerge.coefficients.types import ESConfig, Signals
from esmerge.coefficients.wasserstein import sliced_wasserstein, standardise, unit_directions
from esmerge.core.errors import InputError

SETTINGS = ESConfig("layer", projections=16)


def make_signals(experts: int = 2, modalities: int = 2, layers: int = 3, seed: int = 0) -> Signals:
    torch.manual_seed(seed)
    names = tuple(f"e{i}" for i in range(experts))
    kinds = tuple(f"m{i}" for i in range(modalities))
    backbone = {kind: torch.randn(layers, 6, 5) for kind in kinds}
    responses = {name: {kind: backbone[kind] + torch.randn(layers, 6, 5) for kind in kinds} for name in names}
    return Signals(names, kinds, tuple(i % modalities for i in range(experts)), backbone, responses, {})


def test_distances_have_one_value_per_expert_modality_and_layer() -> None:
    assert layer_distances(make_signals(3, 2, 4), SETTINGS, seed=0).values.shape == (3, 2, 4)
    assert layer_distances(make_signals(2, 1, 4), SETTINGS, seed=0).values.shape == (2, 1, 4)


def test_all_experts_modalities_and_layers_share_directions() -> None:
    signals = make_signals(2, 2, 3)
    same = signals.responses["e0"]["m0"][:1].expand(3, -1, -1)
    base = signals.backbone["m0"][:1].expand(3, -1, -1)
    copies = replace(
        signals,
        backbone=dict.fromkeys(signals.modalities, base),
        responses=dict.fromkeys(signals.experts, dict.fromkeys(signals.modalities, same)),
    )
    distances = layer_distances(copies, SETTINGS, seed=0).values
    torch.testing.assert_close(distances, distances[:1, :1, :1].expand_as(distances), rtol=1e-6, atol=0)


def test_an_untouched_layer_has_distance_zero() -> None:
    signals = make_signals()
    still = replace(signals, responses={name: dict(signals.backbone) for name in signals.experts})
    assert torch.equal(layer_distances(still, SETTINGS, seed=0).values, torch.zeros(2, 2, 3, dtype=torch.float64))


def test_blocks_do_not_change_the_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = layer_distances(make_signals(), SETTINGS, seed=0).values
    monkeypatch.setattr("esmerge.coefficients.distances.VALUES_AT_ONCE", 1)
    torch.testing.assert_close(layer_distances(make_signals(), SETTINGS, seed=0).values, whole)


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
    assert torch.equal(layer_distances(half, SETTINGS, 0).values, layer_distances(rounded, SETTINGS, 0).values)


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


def test_a_left_out_block_is_left_out() -> None:
    signals, directions = make_signals(2, 1, 2), unit_directions(5, 32, seed=1)
    left = along(signals, directions, SETTINGS).without_each_block()
    assert left.shape == (16, 2, 1, 2)
    kept = directions[torch.arange(32) % 16 != 3]
    x, y = standardise(signals.backbone["m0"][:], signals.responses["e1"]["m0"][:])
    torch.testing.assert_close(left[3, 1, 0].float(), sliced_wasserstein(x, y, kept, 2.0))


def test_more_directions_join_as_if_drawn_at_once() -> None:
    signals, directions = make_signals(), unit_directions(5, 48, seed=1)
    joined = along(signals, directions[:16], SETTINGS).joined(along(signals, directions[16:], SETTINGS))
    torch.testing.assert_close(joined.values, along(signals, directions, SETTINGS).values)


def test_a_resample_draws_the_same_prompts_for_all_models_and_layers() -> None:
    signals, directions = make_signals(), unit_directions(5, 16, seed=1)
    again = bootstrapped(signals, directions, replace(SETTINGS, resamples=5), seed=0)
    assert again.shape == (5, 2, 2, 3)
    rows = (torch.rand(5, 6, generator=torch.Generator().manual_seed(0)) * 6).long()
    for resample, expert, modality, layer in ((0, 0, 0, 0), (4, 1, 1, 2), (2, 0, 1, 1)):
        base = signals.backbone[f"m{modality}"][layer : layer + 1][0]
        own = signals.responses[f"e{expert}"][f"m{modality}"][layer : layer + 1][0]
        x, y = standardise(base[rows[resample]], own[rows[resample]])
        expected = sliced_wasserstein(x, y, directions, 2.0).double()
        torch.testing.assert_close(again[resample, expert, modality, layer], expected, rtol=1e-5, atol=1e-6)
