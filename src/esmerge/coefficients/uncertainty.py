"""How sure the layer-wise coefficients are: standard errors over random directions and over the probe's prompts."""

from __future__ import annotations

import torch
from torch import Tensor

from esmerge.coefficients import formulas
from esmerge.coefficients.distances import Distances, bootstrap_distances, direction_batches, distances_along
from esmerge.coefficients.types import ESConfig, Signals
from esmerge.core.devices import CPU, moved

AUTO = "auto"


def measured_distances(
    signals: Signals,
    config: ESConfig,
    seed: int,
    batch_size: int = 1024,
    most_directions: int = 65536,
    device: torch.device = CPU,
) -> Distances:
    """The distances along as many directions as were asked for, and on resampled prompts.

    ``config.projections=auto`` adds directions until no coefficient's standard error over them is above
    ``config.tolerance``.

    Args:
        seed: of the directions and of the resamples.
        batch_size: directions that ``auto`` adds at a time.
        most_directions: where ``auto`` ends in any case.
        device: where they are computed; they are returned in main memory.

    Raises:
        InputError: responses are missing, not finite, or not shaped like the backbone's.
    """
    auto = config.projections == AUTO
    host_batches = direction_batches(signals, batch_size if auto else int(config.projections), seed)
    batches = (moved(directions, device) for directions in host_batches)
    first = next(batches)
    distances = distances_along(signals, first, config)
    while auto and distances.counts.sum() < most_directions and not _sure(distances, signals, config):
        distances = distances.with_more_directions(distances_along(signals, next(batches), config))
    return distances.with_resamples(bootstrap_distances(signals, first, config, seed))


def alpha_from_distances(distances: Tensor, signals: Signals, config: ESConfig) -> Tensor:
    """Layer-wise coefficients, (N, L), from distances, (N, M, L)."""
    return formulas.layer_coefficients(distances, signals.own, config.cross_weight, config.temperature)


def direction_errors(distances: Distances, signals: Signals, config: ESConfig) -> Tensor:
    """Standard error of every coefficient over the directions, (N, L), by the jackknife over blocks of them.

    NaN where there is one block only.
    """
    left_out = torch.stack([alpha_from_distances(d, signals, config) for d in distances.without_each_block()])
    blocks = len(left_out)
    if blocks < 2:
        return torch.full_like(left_out[0], torch.nan)
    return ((blocks - 1) * left_out.var(dim=0, correction=0)).sqrt()


def probe_errors(distances: Distances, signals: Signals, config: ESConfig) -> Tensor:
    """Standard error of every coefficient over the probe's prompts, (N, L), by the bootstrap; NaN without resamples."""
    resampled = [alpha_from_distances(d, signals, config) for d in distances.resampled]
    if len(resampled) < 2:
        return torch.full_like(alpha_from_distances(distances.values, signals, config), torch.nan)
    return torch.stack(resampled).std(dim=0)


def _sure(distances: Distances, signals: Signals, config: ESConfig) -> bool:
    return bool((direction_errors(distances, signals, config) <= config.tolerance).all())
