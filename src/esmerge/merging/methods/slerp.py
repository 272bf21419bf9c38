"""SLERP for any number of experts: the Karcher mean of the directions of their updates (arXiv 2603.04972).

Each module's updates are taken as vectors. Their directions are averaged on the unit sphere, where the mean is the
point with the least sum of squared angles to them, and the result gets the experts' mean length. That is mergekit's
`karcher` with equal weights, and for two updates of one length it is SLERP half-way. Lengths and angles are the same in
a shared basis, so everything happens in small cores.

Differences from mergekit, on purpose: its `slerp` interpolates the vectors themselves, so that the longer one bends the
direction, while directions alone are averaged here; where directions cancel out and have no mean, its `karcher` takes
the first expert's, while the plain average is left here, whatever the order; it drops updates that are shorter than the
tolerance, while only an update of zero lacks a direction here; and angles are computed in double precision. Above all,
mergekit is given whole weights, between which the angles are so small that its mean is nearly the average; here the
mean is that of the updates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from esmerge.adapters.lora import LoraFactors
from esmerge.core.errors import ConfigError
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.core.validation import check_positive
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.ops.settings import DeltaSettings
from esmerge.merging.ops.shared_basis import shared_basis
from esmerge.merging.ops.space import low_rank_state


@dataclass(frozen=True)
class SlerpSettings(DeltaSettings):
    """Settings of the spherical mean; mergekit's values.

    Attributes:
        tolerance: length of a step on the unit sphere below which the mean has been found.
        max_iterations: steps at most.
    """

    tolerance: float = 1e-5
    max_iterations: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("tolerance", self.tolerance)
        if self.max_iterations < 1:
            raise ConfigError(f"method.max_iterations={self.max_iterations} must be at least 1")


@MERGES.register(
    "slerp",
    SlerpSettings,
    MergeInfo(
        title="SLERP",
        source="arXiv 2603.04972",
        kind=MethodKind.MERGE,
        spaces=("delta",),
    ),
)
def slerp(inputs: MergeInput, settings: SlerpSettings) -> Merged:
    """Mean length times mean direction of each module's updates."""

    def factors(module: str) -> LoraFactors:
        basis = shared_basis({name: state.modules[module] for name, state in inputs.experts.items()})
        mean = spherical_mean(basis.cores.flatten(1), settings.tolerance, settings.max_iterations)
        return basis.expand(settings.scale * mean.reshape(basis.cores.shape[1:]))

    return Merged(low_rank_state(inputs.experts, factors, settings.rank))


def spherical_mean(vectors: Tensor, tolerance: float, max_iterations: int) -> Tensor:
    """``mean_i |v_i|`` times the Karcher mean of ``v_i / |v_i|``: (N, d) -> (d,).

    Vectors of length zero count for the length alone. Directions that cancel out leave the plain average.
    """
    lengths = vectors.norm(dim=1)
    pointing = lengths > 0
    directions = vectors[pointing] / lengths[pointing, None]
    start = directions.sum(dim=0) / max(len(directions), 1)
    if start.norm() < tolerance:
        return vectors.mean(dim=0)
    mean_length: Tensor = lengths.mean()
    return mean_length * karcher_mean(directions, start / start.norm(), tolerance, max_iterations)


def karcher_mean(directions: Tensor, start: Tensor, tolerance: float, max_iterations: int) -> Tensor:
    """The unit vector with the least sum of squared angles to unit vectors, (N, d) -> (d,).

    ``m ← exp_m(1/N · Σ log_m(u_i))`` from ``start``, until the step is shorter than ``tolerance``.
    """
    mean = start
    for _ in range(max_iterations):
        step = tangents(mean, directions).mean(dim=0)
        angle = step.norm()
        if angle < tolerance:
            break
        mean = torch.cos(angle) * mean + torch.sin(angle) * step / angle
        mean = mean / mean.norm()
    return mean


def tangents(mean: Tensor, directions: Tensor) -> Tensor:
    """``log_m(u_i)``: at m, towards u_i, as long as the angle between them, (N, d); zero for m itself and for -m."""
    along = directions @ mean
    across = directions - along[:, None] * mean
    sine = across.norm(dim=1)
    angle = torch.atan2(sine, along)
    return across * torch.where(sine > 0, angle / sine, 0.0)[:, None]
