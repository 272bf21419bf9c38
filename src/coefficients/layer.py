"""Layer-wise coefficients: how far each expert moves each layer's embeddings (arXiv 2603.14405, 'Layer-wise').

The chain is pooled responses -> standardise -> sliced Wasserstein distance -> increment along depth -> z-score over
layers -> own modality plus weighted others -> softmax over experts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from src.coefficients.signals import Granularity, Signals
from src.errors import InputError

DIRECTIONS_AT_ONCE = 128  # bounds the projections held in memory: layers * directions * samples
VALUES_AT_ONCE = 2**24  # bounds the standardised responses held in memory: layers * samples * features


def unit_directions(features: int, projections: int, seed: int) -> Tensor:
    """Random unit vectors, uniform on the sphere, (projections, features), double precision."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(projections, features, generator=generator, dtype=torch.float64)
    return normal / normal.norm(dim=1, keepdim=True)


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
    return (x - mean) / std, (y - mean) / std


def sliced_wasserstein(x: Tensor, y: Tensor, directions: Tensor, power: float) -> Tensor:
    """``mean(|sorted x·u − sorted y·u|^p)^(1/p)`` over rows and directions u.

    Args:
        x, y: (..., samples, features) each, with the same number of samples.
        directions: (projections, features), unit vectors.
        power: p.

    Returns:
        (...,) distances.
    """
    if x.shape != y.shape:
        raise InputError(f"responses to be compared differ in shape: {tuple(x.shape)} and {tuple(y.shape)}")
    total = x.new_zeros(x.shape[:-2])
    for chunk in directions.to(x).split(DIRECTIONS_AT_ONCE):
        gap = _sorted_projections(x, chunk) - _sorted_projections(y, chunk)
        total += gap.abs().pow(power).sum(dim=(-2, -1))
    return (total / (x.shape[-2] * len(directions))) ** (1 / power)


def layer_distances(signals: Signals, granularity: Granularity, seed: int) -> Tensor:
    """Distance of every expert's responses from the backbone's, (N experts, M modalities, L layers).

    All of them use the same directions, so that differences between experts are not projection noise.

    Raises:
        InputError: responses are missing, not finite, or not shaped like the backbone's.
    """
    first = _response(signals.backbone, signals.modalities[0], "the backbone")
    directions = unit_directions(first.shape[-1], granularity.projections, seed)
    rows = []
    for expert in signals.experts:
        responses = signals.responses.get(expert, {})
        pairs = [
            (_response(signals.backbone, name, "the backbone"), _response(responses, name, f"expert {expert!r}"))
            for name in signals.modalities
        ]
        rows.append(torch.stack([_distances(x, y, directions, granularity.power) for x, y in pairs]))
    return torch.stack(rows)


def increments(distances: Tensor) -> Tensor:
    """What each layer adds, (..., L): ``D[l] − D[l−1]``, and ``D[0]`` for the first layer."""
    return torch.diff(distances, dim=-1, prepend=torch.zeros_like(distances[..., :1]))


def zscore(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Subtract the mean and divide by the population standard deviation over ``dims``; zeros where all are equal."""
    # A z-score does not change with the unit; dividing by the largest value keeps squares of tiny scores representable.
    largest = values.abs().amax(dim=dims, keepdim=True)
    scaled = values / torch.where(largest == 0, torch.ones_like(largest), largest)
    centred = scaled - scaled.mean(dim=dims, keepdim=True)
    std = scaled.std(dim=dims, correction=0, keepdim=True)
    equal = scaled.amax(dim=dims, keepdim=True) == scaled.amin(dim=dims, keepdim=True)
    safe = torch.where(equal | (std == 0), torch.ones_like(std), std)
    return torch.where(equal, torch.zeros_like(centred), centred / safe)


def layer_coefficients(distances: Tensor, own: Sequence[int], cross_weight: float, temperature: float) -> Tensor:
    """Layer-wise coefficients ``alpha``, (N, L); they sum to 1 over the experts.

    ``alpha[i,l] = softmax_i(g[i,l] / T)`` with ``g[i,l] = z[i,own,l] + a · Σ_{t≠own} z[i,t,l]``.

    Args:
        distances: (N experts, M modalities, L layers).
        own: for each expert, the index of its own modality.
        cross_weight: a.
        temperature: T.
    """
    z = zscore(increments(distances.double()), dims=(-1,))
    mine = z[torch.arange(len(own)), torch.as_tensor(own)]
    gain = mine + cross_weight * (z.sum(dim=1) - mine)
    return torch.softmax(gain / temperature, dim=0)


def _sorted_projections(rows: Tensor, directions: Tensor) -> Tensor:
    return (directions @ rows.mT).sort(dim=-1).values


def _distances(x: Tensor, y: Tensor, directions: Tensor, power: float) -> Tensor:
    if x.shape != y.shape:
        raise InputError(f"responses differ in shape: backbone {tuple(x.shape)}, expert {tuple(y.shape)}; probe again")
    layers_at_once = max(1, VALUES_AT_ONCE // max(1, x[0].numel()))
    blocks = zip(x.split(layers_at_once), y.split(layers_at_once), strict=True)
    return torch.cat([sliced_wasserstein(*standardise(_wide(a), _wide(b)), directions, power) for a, b in blocks])


def _response(responses: Mapping[str, Tensor], modality: str, owner: str) -> Tensor:
    tensor = responses.get(modality)
    if tensor is None:
        raise InputError(f"{owner} has no responses for modality {modality!r}: probe again with that modality")
    if not torch.isfinite(tensor).all():
        raise InputError(f"{owner} has NaN or infinite responses for modality {modality!r}: probe in float32")
    return tensor


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
