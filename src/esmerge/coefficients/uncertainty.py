"""How sure the layer-wise coefficients are: standard errors over random directions and over the probe's prompts."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from esmerge.coefficients.distances import Distances, along, bootstrapped, direction_rounds
from esmerge.coefficients.layer import layer_coefficients
from esmerge.coefficients.types import ESConfig, Signals

AUTO = "auto"
ROUND, MOST = 1024, 65536  # directions that are added at a time, and at most, where their number is found


def measured_distances(signals: Signals, granularity: ESConfig, seed: int) -> Distances:
    """The distances along as many directions as were asked for, and on resampled prompts.

    ``granularity.projections=auto`` adds directions until no coefficient's standard error over them is above
    ``granularity.tolerance``, or there are ``MOST`` of them.

    Raises:
        InputError: responses are missing, not finite, or not shaped like the backbone's.
    """
    count = ROUND if granularity.projections == AUTO else int(granularity.projections)
    rounds = direction_rounds(signals, count, seed)
    first = next(rounds)
    found = along(signals, first, granularity)
    if granularity.projections == AUTO:
        found = _until_sure(signals, granularity, found, rounds)
    return found.resampled_as(bootstrapped(signals, first, granularity, seed))


def coefficients_of(distances: Tensor, signals: Signals, granularity: ESConfig) -> Tensor:
    """Layer-wise coefficients, (N, L), from distances, (N, M, L)."""
    return layer_coefficients(distances, signals.own, granularity.cross_weight, granularity.temperature)


def direction_errors(distances: Distances, signals: Signals, granularity: ESConfig) -> Tensor:
    """Standard error of every coefficient over the directions, (N, L), by the jackknife over blocks of them.

    NaN where there is one block only.
    """
    left_out = torch.stack([coefficients_of(d, signals, granularity) for d in distances.without_each_block()])
    blocks = len(left_out)
    if blocks < 2:
        return torch.full_like(left_out[0], torch.nan)
    return ((blocks - 1) * left_out.var(dim=0, correction=0)).sqrt()


def probe_errors(distances: Distances, signals: Signals, granularity: ESConfig) -> Tensor:
    """Standard error of every coefficient over the probe's prompts, (N, L), by the bootstrap; NaN without resamples."""
    again = [coefficients_of(d, signals, granularity) for d in distances.resampled]
    if len(again) < 2:
        return torch.full_like(coefficients_of(distances.values, signals, granularity), torch.nan)
    return torch.stack(again).std(dim=0)


def _until_sure(signals: Signals, granularity: ESConfig, found: Distances, rounds: Iterator[Tensor]) -> Distances:
    while found.counts.sum() < MOST and not _sure(direction_errors(found, signals, granularity), granularity):
        found = found.joined(along(signals, next(rounds), granularity))
    return found


def _sure(errors: Tensor, granularity: ESConfig) -> bool:
    return bool((errors <= granularity.tolerance).all())
