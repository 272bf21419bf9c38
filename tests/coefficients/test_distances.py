"""Distances of all experts, modalities and layers: shared directions, blocks, resamples, refusals."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.coefficients import oracle
from tests.coefficients.signals import WIDTH, make_directions, make_signals
from torch import Tensor

from esmerge.coefficients import formulas
from esmerge.coefficients.distances import bootstrap_distances, direction_batches, distances_along
from esmerge.coefficients.types import ESConfig, Signals
from esmerge.core.errors import InputError

CONFIG = ESConfig("layer", projections=16)


def values(signals: Signals, seed: int = 0) -> Tensor:
    return distances_along(signals, make_directions(WIDTH, 16, seed), CONFIG).values


def pot_distance(x: Tensor, y: Tensor, directions: Tensor, power: float) -> float:
    scaled = oracle.standardise(x.double().numpy(), y.double().numpy())
    return ot.sliced_wasserstein_distance(*scaled, projections=directions.T.numpy(), p=power)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(1, 4), st.integers(1, 3), st.integers(1, 5), st.sampled_from([1.0, 2.0, 3.0]), st.integers(1, 40),
    st.integers(0, 999),
)  # fmt: skip
def test_every_distance_agrees_with_pot(
    experts: int, modalities: int, layers: int, power: float, projections: int, seed: int
) -> None:
    signals, directions = make_signals(experts, modalities, layers, seed), make_directions(WIDTH, projections, seed)
    distances = distances_along(signals, directions, replace(CONFIG, power=power)).values
    assert distances.shape == (experts, modalities, layers)
    for i, t, layer in np.ndindex(*distances.shape):
        x, y = signals.backbone[f"kind{t}"][layer:], signals.responses[f"expert{i}"][f"kind{t}"][layer:]
        assert float(distances[i, t, layer]) == pytest.approx(pot_distance(x[0], y[0], directions, power), rel=1e-4)


def test_directions_are_those_of_the_seed_and_new_ones_each_time() -> None:
    batches = direction_batches(make_signals(), 16, seed=5)
    assert torch.equal(torch.cat([next(batches), next(batches)]), make_directions(WIDTH, 32, seed=5))


def test_all_experts_modalities_and_layers_share_directions() -> None:
    signals = make_signals(2, 2, 3)
    response = signals.responses["expert0"]["kind0"][:1].expand(3, -1, -1)
    base = signals.backbone["kind0"][:1].expand(3, -1, -1)
    copies = replace(
        signals,
        backbone=dict.fromkeys(signals.modalities, base),
        responses=dict.fromkeys(signals.experts, dict.fromkeys(signals.modalities, response)),
    )
    distances = values(copies)
    torch.testing.assert_close(distances, distances[:1, :1, :1].expand_as(distances), rtol=1e-6, atol=0)


def test_an_untouched_layer_has_distance_zero() -> None:
    signals = make_signals()
    unchanged = replace(signals, responses={name: dict(signals.backbone) for name in signals.experts})
    assert torch.equal(values(unchanged), torch.zeros(2, 2, 3, dtype=torch.float64))


@pytest.mark.parametrize("values_at_once", [1, 40, 100])
def test_what_is_in_memory_at_a_time_does_not_change_the_distances(values_at_once: int) -> None:
    signals, directions, config = make_signals(), make_directions(WIDTH, 16, seed=0), replace(CONFIG, resamples=3)
    distances, resampled = (
        distances_along(signals, directions, config),
        bootstrap_distances(signals, directions, config, 0),
    )
    parts = distances_along(signals, directions, config, values_at_once)
    torch.testing.assert_close(parts.gaps, distances.gaps, rtol=1e-5, atol=1e-6)
    resampled_parts = bootstrap_distances(signals, directions, config, 0, values_at_once)
    torch.testing.assert_close(resampled_parts, resampled, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("values_at_once", "layers", "directions"), [(1, 1, 1), (90, 3, 5), (100_000, 3, 16)])
def test_no_more_is_in_memory_than_allowed(
    values_at_once: int, layers: int, directions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3 layers of 6 samples of 5 features: 90 responses; 18 projections on each direction."""
    sizes = set()

    def recorded(x: Tensor, y: Tensor, chunk: Tensor, power: float) -> Tensor:
        sizes.add((len(x), len(chunk)))
        return torch.zeros(len(x), len(chunk))

    monkeypatch.setattr(formulas, "transport_costs", recorded)
    distances_along(make_signals(), make_directions(WIDTH, 16, seed=0), CONFIG, values_at_once)
    assert max(sizes) == (layers, directions)


def test_half_precision_responses_are_computed_in_single() -> None:
    signals = make_signals()
    half = replace(
        signals,
        backbone={k: v.bfloat16() for k, v in signals.backbone.items()},
        responses={n: {k: v.bfloat16() for k, v in responses.items()} for n, responses in signals.responses.items()},
    )
    rounded = replace(
        half,
        backbone={k: v.float() for k, v in half.backbone.items()},
        responses={n: {k: v.float() for k, v in responses.items()} for n, responses in half.responses.items()},
    )
    assert torch.equal(values(half), values(rounded))


def test_missing_or_broken_responses_are_refused_by_name() -> None:
    signals = make_signals()
    with pytest.raises(InputError, match="expert 'expert1' has no responses for modality 'kind0'"):
        values(replace(signals, responses={"expert0": signals.responses["expert0"]}))
    with pytest.raises(InputError, match="backbone has no responses for modality 'kind1'"):
        values(replace(signals, backbone={"kind0": signals.backbone["kind0"]}))
    broken = {
        **signals.responses,
        "expert0": {**signals.responses["expert0"], "kind1": torch.full((3, 6, 5), math.nan)},
    }
    with pytest.raises(InputError, match="expert 'expert0' has NaN or infinite responses for modality 'kind1'"):
        values(replace(signals, responses=broken))
    short = {**signals.responses, "expert0": {**signals.responses["expert0"], "kind1": torch.zeros(2, 6, 5)}}
    with pytest.raises(InputError, match=r"backbone \(3, 6, 5\), expert \(2, 6, 5\)"):
        values(replace(signals, responses=short))


def test_a_left_out_block_is_left_out() -> None:
    signals, directions = make_signals(2, 1, 2), make_directions(WIDTH, 32, seed=1)
    distances = distances_along(signals, directions, CONFIG).without_each_block()
    assert distances.shape == (16, 2, 1, 2)
    remaining = directions[torch.arange(32) % 16 != 3]
    for layer in range(2):
        x, y = signals.backbone["kind0"][layer:], signals.responses["expert1"]["kind0"][layer:]
        assert float(distances[3, 1, 0, layer]) == pytest.approx(pot_distance(x[0], y[0], remaining, 2.0), rel=1e-5)


def test_more_directions_count_as_if_drawn_at_once() -> None:
    signals, directions = make_signals(), make_directions(WIDTH, 48, seed=1)
    first, second = (distances_along(signals, part, CONFIG) for part in (directions[:16], directions[16:]))
    distances = distances_along(signals, directions, CONFIG)
    torch.testing.assert_close(first.with_more_directions(second).values, distances.values)


def test_a_resample_draws_the_same_prompts_for_all_models_and_layers() -> None:
    signals, directions = make_signals(), make_directions(WIDTH, 16, seed=1)
    resampled = bootstrap_distances(signals, directions, replace(CONFIG, resamples=5), seed=0)
    assert resampled.shape == (5, 2, 2, 3)
    rows = (torch.rand(5, 6, generator=torch.Generator().manual_seed(0)) * 6).long()
    for resample, expert, modality, layer in ((0, 0, 0, 0), (4, 1, 1, 2), (2, 0, 1, 1)):
        x = signals.backbone[f"kind{modality}"][layer:][0][rows[resample]]
        y = signals.responses[f"expert{expert}"][f"kind{modality}"][layer:][0][rows[resample]]
        distance = float(resampled[resample, expert, modality, layer])
        assert distance == pytest.approx(pot_distance(x, y, directions, 2.0), rel=1e-4)
