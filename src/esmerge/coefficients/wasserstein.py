"""Sliced Wasserstein distance of two standardised samples of pooled responses (arXiv 2603.14405, 'Layer-wise')."""

from __future__ import annotations

import torch
from torch import Tensor

from esmerge.core.errors import InputError

PROJECTIONS_AT_ONCE = 2**16  # values held in memory for each sample: layers * directions * samples


def random_directions(features: int, count: int, generator: torch.Generator) -> Tensor:
    """Random unit vectors, uniform on the sphere, (count, features), double precision."""
    normal = torch.randn(count, features, generator=generator, dtype=torch.float64)
    return normal / normal.norm(dim=1, keepdim=True)


def unit_directions(features: int, projections: int, seed: int) -> Tensor:
    """The first ``projections`` random directions of a seed, (projections, features)."""
    return random_directions(features, projections, torch.Generator().manual_seed(seed))


def standardise(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Scale each feature by the mean and population standard deviation of the stacked rows of both samples.

    A feature that is constant over all rows is only centred.

    Args:
        x, y: (..., samples, features) each.
    """
    rows = torch.cat([x, y], dim=-2)
    mean = rows.mean(dim=-2, keepdim=True)
    std = rows.std(dim=-2, correction=0, keepdim=True)
    # Compared exactly: rounding of the mean leaves a constant column a tiny, meaningless std.
    constant = rows.amax(dim=-2, keepdim=True) == rows.amin(dim=-2, keepdim=True)
    std = torch.where(constant, torch.ones_like(std), std)
    rows.sub_(mean).div_(std)  # in place: responses of many prompts are large
    return rows[..., : x.shape[-2], :], rows[..., x.shape[-2] :, :]


def projected_gaps(x: Tensor, y: Tensor, directions: Tensor, power: float) -> Tensor:
    """``mean(|sorted x·u − sorted y·u|^p)`` over rows, for each direction u.

    Args:
        x, y: (..., samples, features) each, with the same number of samples.
        directions: (projections, features), unit vectors.
        power: p.

    Returns:
        (..., projections).

    Raises:
        InputError: the samples differ in shape.
    """
    if x.shape != y.shape:
        raise InputError(f"responses to be compared differ in shape: {tuple(x.shape)} and {tuple(y.shape)}")
    at_once = max(1, PROJECTIONS_AT_ONCE // max(1, x[..., 0].numel()))
    gaps = []
    for chunk in directions.to(x).split(at_once):
        gap = _sorted(chunk @ x.mT).sub_(_sorted(chunk @ y.mT))
        gaps.append((gap.square_() if power == 2 else gap.abs_().pow_(power)).mean(dim=-1))
    return torch.cat(gaps, dim=-1)


def sliced_wasserstein(x: Tensor, y: Tensor, directions: Tensor, power: float) -> Tensor:
    """``mean(|sorted x·u − sorted y·u|^p)^(1/p)`` over rows and directions u, (...,); arguments as above."""
    return projected_gaps(x, y, directions, power).mean(dim=-1) ** (1 / power)


def _sorted(projections: Tensor) -> Tensor:
    """Sorted along the last dimension; in memory by NumPy, in place, which is many times faster than torch's sort."""
    if projections.device.type != "cpu":
        return projections.sort(dim=-1).values
    projections = projections.contiguous()
    projections.numpy().sort(axis=-1)
    return projections
