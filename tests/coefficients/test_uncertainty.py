"""Standard errors of the layer-wise coefficients, and as many directions as a tolerance needs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.coefficients.signals import make_directions, make_signals

from esmerge.coefficients.distances import distances_along
from esmerge.coefficients.estimation import check_granularity, coefficients
from esmerge.coefficients.types import ESConfig
from esmerge.coefficients.uncertainty import (
    alpha_from_distances,
    direction_errors,
    measured_distances,
    probe_errors,
)
from esmerge.core.errors import ConfigError

CONFIG = ESConfig("layer", projections=64)


def test_the_error_over_directions_is_that_of_fresh_directions() -> None:
    """The jackknife's error agrees with the spread of the coefficients over independent sets of directions."""
    signals = make_signals(2, 2, 4)
    alphas, errors = [], []
    for seed in range(60):
        distances = distances_along(signals, make_directions(5, 64, seed), CONFIG)
        alphas.append(alpha_from_distances(distances.values, signals, CONFIG))
        errors.append(direction_errors(distances, signals, CONFIG))
    spread = torch.stack(alphas).std(dim=0)
    ratio = torch.stack(errors).mean(dim=0) / spread
    assert (ratio > 0.6).all() and (ratio < 1.6).all()


def test_the_error_over_prompts_is_the_spread_over_resamples() -> None:
    signals = make_signals()
    distances = measured_distances(signals, replace(CONFIG, resamples=7), seed=0)
    alphas = torch.stack([alpha_from_distances(d, signals, CONFIG) for d in distances.resampled])
    assert len(alphas) == 7
    torch.testing.assert_close(probe_errors(distances, signals, CONFIG), alphas.std(dim=0))


def test_no_error_is_invented_where_there_is_nothing_to_tell_it_from() -> None:
    signals, single = make_signals(), replace(CONFIG, projections=1, resamples=0)
    distances = measured_distances(signals, single, seed=0)
    assert (
        direction_errors(distances, signals, single).isnan().all()
        and probe_errors(distances, signals, single).isnan().all()
    )


def test_directions_are_added_until_the_coefficients_are_sure() -> None:
    signals = make_signals(2, 2, 4)
    loose, tight = (
        measured_distances(signals, replace(CONFIG, projections="auto", tolerance=tolerance), seed=0, batch_size=32)
        for tolerance in (0.2, 0.02)
    )
    assert loose.counts.sum() < tight.counts.sum() and tight.counts.sum() % 32 == 0
    assert direction_errors(tight, signals, CONFIG).max() <= 0.02


def test_the_search_for_directions_ends() -> None:
    unreachable = replace(CONFIG, projections="auto", tolerance=1e-9)
    distances = measured_distances(make_signals(), unreachable, seed=0, batch_size=32, most_directions=96)
    assert distances.counts.sum() == 96


def test_coefficients_carry_their_errors() -> None:
    signals = make_signals()
    shapes = {"m.layers.0.lora_A.weight": (1, 1), "m.layers.2.lora_A.weight": (1, 1)}
    estimate = coefficients(signals, CONFIG, shapes, 0)
    assert set(estimate.errors) == {"directions", "probe"} and set(estimate.errors["probe"]) == set(signals.experts)
    assert all(errors.shape == (3,) for errors in estimate.errors["directions"].values())
    rows = estimate.layer_rows()
    assert [(row["expert"], row["layer"]) for row in rows[:4]] == [
        ("expert0", 0),
        ("expert0", 1),
        ("expert0", 2),
        ("expert1", 0),
    ]
    assert rows[4]["coefficient"] == float(estimate.layer["expert1"][1])
    assert rows[4]["error_probe"] == float(estimate.errors["probe"]["expert1"][1])


def test_known_distances_are_not_measured_again() -> None:
    signals = make_signals()
    distances = measured_distances(make_signals(seed=9), CONFIG, seed=0)
    estimate = coefficients(signals, CONFIG, {"m.layers.2.lora_A.weight": (1, 1)}, 0, distances)
    expected = alpha_from_distances(distances.values, signals, CONFIG).float()
    torch.testing.assert_close(torch.stack([estimate.layer[name] for name in signals.experts]), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"projections": "some"}, "granularity.projections='some': expected an integer or auto"),
        ({"projections": 0}, "granularity.projections=0 must be greater than 0"),
        ({"resamples": -1}, "granularity.resamples=-1: expected 0 or more"),
        ({"tolerance": 0.0}, "granularity.tolerance=0.0 must be greater than 0"),
    ],
)
def test_values_out_of_range_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_granularity(replace(CONFIG, **change))
