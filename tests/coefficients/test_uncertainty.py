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
    fresh, told = [], []
    for seed in range(60):
        found = distances_along(signals, make_directions(5, 64, seed), CONFIG)
        fresh.append(alpha_from_distances(found.values, signals, CONFIG))
        told.append(direction_errors(found, signals, CONFIG))
    spread = torch.stack(fresh).std(dim=0)
    ratio = torch.stack(told).mean(dim=0) / spread
    assert (ratio > 0.6).all() and (ratio < 1.6).all()


def test_the_error_over_prompts_is_the_spread_over_resamples() -> None:
    signals = make_signals()
    found = measured_distances(signals, replace(CONFIG, resamples=7), seed=0)
    again = torch.stack([alpha_from_distances(d, signals, CONFIG) for d in found.resampled])
    assert len(again) == 7
    torch.testing.assert_close(probe_errors(found, signals, CONFIG), again.std(dim=0))


def test_no_error_is_invented_where_there_is_nothing_to_tell_it_from() -> None:
    signals, single = make_signals(), replace(CONFIG, projections=1, resamples=0)
    found = measured_distances(signals, single, seed=0)
    assert direction_errors(found, signals, single).isnan().all() and probe_errors(found, signals, single).isnan().all()


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
    found = measured_distances(make_signals(), unreachable, seed=0, batch_size=32, most_directions=96)
    assert found.counts.sum() == 96


def test_coefficients_carry_their_errors() -> None:
    signals = make_signals()
    shapes = {"m.layers.0.lora_A.weight": (1, 1), "m.layers.2.lora_A.weight": (1, 1)}
    found = coefficients(signals, CONFIG, shapes, 0)
    assert set(found.errors) == {"directions", "probe"} and set(found.errors["probe"]) == set(signals.experts)
    assert all(errors.shape == (3,) for errors in found.errors["directions"].values())
    rows = found.layer_rows()
    assert [(row["expert"], row["layer"]) for row in rows[:4]] == [
        ("expert0", 0),
        ("expert0", 1),
        ("expert0", 2),
        ("expert1", 0),
    ]
    assert rows[4]["coefficient"] == float(found.layer["expert1"][1])
    assert rows[4]["error_probe"] == float(found.errors["probe"]["expert1"][1])


def test_known_distances_are_not_measured_again() -> None:
    signals = make_signals()
    known = measured_distances(make_signals(seed=9), CONFIG, seed=0)
    found = coefficients(signals, CONFIG, {"m.layers.2.lora_A.weight": (1, 1)}, 0, known)
    expected = alpha_from_distances(known.values, signals, CONFIG).float()
    torch.testing.assert_close(torch.stack([found.layer[name] for name in signals.experts]), expected)


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
