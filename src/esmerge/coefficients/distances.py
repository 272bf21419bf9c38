"""How far every expert moves every modality in every layer, and how sure that is.

Distances are kept apart by blocks of directions and measured again on resampled prompts, so that what is computed from
them can be given a standard error of either kind. Here is what surrounds the formulas: which samples are compared, and
how many of their values are in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from esmerge.coefficients import formulas
from esmerge.coefficients.types import ESConfig, Layered, Signals
from esmerge.core.devices import moved
from esmerge.core.errors import InputError
from esmerge.core.finite import all_finite, number_format

VALUES_AT_ONCE = 2**16  # 256 KiB in single precision, which a processor's cache holds
VALUES_AT_ONCE_ON_GPU = 2**25  # 128 MiB: large enough to fill it, small beside a backbone
JACKKNIFE_BLOCKS = 16  # of directions, left out one by one for the standard error
RESAMPLED_DIRECTIONS = 128  # of each bootstrap resample: enough, since all resamples share them


_Compare = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Distances:
    """Sliced Wasserstein distances. N experts, M modalities, L layers.

    Attributes:
        gaps: (G, N, M, L), sum over each block's directions of the transport costs, the p-th powers of the gaps.
        counts: (G,), directions of each block.
        power: p.
        resampled: (R, N, M, L), distances on bootstrap resamples of the probe; R may be 0.
    """

    gaps: Tensor
    counts: Tensor
    power: float
    resampled: Tensor

    @property
    def values(self) -> Tensor:
        """The distances over all directions, (N, M, L)."""
        return formulas.sliced_wasserstein(self.gaps.sum(dim=0) / self.counts.sum(), self.power)

    def without_each_block(self) -> Tensor:
        """The distances with one block of directions left out, (G, N, M, L)."""
        remaining_gaps = (self.gaps.sum(dim=0) - self.gaps).clamp(min=0)  # rounding may leave less than nothing
        counts = (self.counts.sum() - self.counts).view(-1, 1, 1, 1)
        return formulas.sliced_wasserstein(remaining_gaps / counts, self.power)

    def with_more_directions(self, more: Distances) -> Distances:
        """The distances over these directions and those of ``more``, block by block."""
        return replace(self, gaps=self.gaps + more.gaps, counts=self.counts + more.counts)

    def with_resamples(self, resampled: Tensor) -> Distances:
        """The same with distances on resampled prompts, (R, N, M, L)."""
        return replace(self, resampled=resampled)


def direction_batches(signals: Signals, count: int, seed: int) -> Iterator[Tensor]:
    """Directions for the features of these signals, ``count`` new ones each time, (count, d)."""
    features = _response(signals.backbone, signals.modalities[0], "the backbone").shape[-1]
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield formulas.unit_directions(features, count, generator)


def distances_along(
    signals: Signals, directions: Tensor, config: ESConfig, values_at_once: int | None = None
) -> Distances:
    """Distances of every expert's responses from the backbone's along given directions, (P, d).

    All of them use the same directions, so that differences between experts are not projection noise. They are computed
    on the device of the directions, and returned in main memory.

    Args:
        values_at_once: most responses, and most projections, that are held in memory; one layer's, or those on one
            direction, at least. By default what suits the device.

    Raises:
        InputError: responses are missing, not finite, or not shaped like the backbone's.
    """
    blocks = torch.arange(len(directions)) % min(JACKKNIFE_BLOCKS, len(directions))
    members = torch.nn.functional.one_hot(blocks).double()  # (P, G)
    at_once, on_device = values_at_once or _at_once(directions.device), moved(members, directions.device)

    def costs_by_block(x: Tensor, y: Tensor) -> Tensor:
        return _costs(x, y, directions, config.power, at_once).double() @ on_device

    gaps = _over_pairs(signals, costs_by_block, at_once, directions.device).cpu().movedim(-1, 0)
    return Distances(gaps, members.sum(dim=0), config.power, torch.empty(0, *gaps.shape[1:], dtype=gaps.dtype))


def bootstrap_distances(
    signals: Signals, directions: Tensor, config: ESConfig, seed: int, values_at_once: int | None = None
) -> Tensor:
    """The distances on ``config.resamples`` resamples of the probe's prompts, (R, N, M, L).

    A resample draws the same prompts for every model, modality and layer, and is measured along the first few of the
    directions, the same every time. Arguments and errors as of ``distances_along``.
    """
    first_directions, device = directions[:RESAMPLED_DIRECTIONS], directions.device
    at_once = values_at_once or _at_once(device)
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(config.resamples, _most_samples(signals), generator=generator)

    def distances_by_resample(x: Tensor, y: Tensor) -> Tensor:
        indices = moved((uniform[:, : x.shape[1]] * x.shape[1]).long(), device)
        costs = torch.empty(len(x), len(indices), dtype=torch.float64, device=device)
        for column, rows in enumerate(indices):
            costs[:, column] = _costs(x[:, rows], y[:, rows], first_directions, config.power, at_once).mean(dim=-1)
        return formulas.sliced_wasserstein(costs, config.power)

    return _over_pairs(signals, distances_by_resample, at_once, device).cpu().movedim(-1, 0)


def _at_once(device: torch.device) -> int:
    return VALUES_AT_ONCE if device.type == "cpu" else VALUES_AT_ONCE_ON_GPU


def _costs(x: Tensor, y: Tensor, directions: Tensor, power: float, values_at_once: int) -> Tensor:
    """Transport costs of the standardised responses, (layers, P), some directions at a time."""
    x, y = formulas.standardise(x, y)
    step = max(1, values_at_once // max(1, x[..., 0].numel()))
    parts = directions.to(x).split(step)
    return torch.cat([formulas.transport_costs(x, y, part, power) for part in parts], dim=-1)


def _over_pairs(signals: Signals, compare: _Compare, values_at_once: int, device: torch.device) -> Tensor:
    """``compare(backbone's, expert's responses of some layers) -> (layers, C)`` for all pairs: (N, M, L, C)."""
    rows = []
    for expert in signals.experts:
        responses, owner = signals.responses.get(expert, {}), f"expert {expert!r}"
        columns = [
            _over_layers(signals, responses, t, owner, compare, values_at_once, device) for t in signals.modalities
        ]
        rows.append(torch.stack(columns))
    return torch.stack(rows)


def _over_layers(
    signals: Signals,
    responses: Mapping[str, Layered],
    modality: str,
    owner: str,
    compare: _Compare,
    values_at_once: int,
    device: torch.device,
) -> Tensor:
    """One expert and modality, some layers at a time on the device: (L, C)."""
    backbone = _response(signals.backbone, modality, "the backbone")
    expert = _response(responses, modality, owner)
    if backbone.shape != expert.shape:
        raise InputError(f"responses differ in shape: backbone {tuple(backbone.shape)}, expert {tuple(expert.shape)}")
    depth, samples, features = backbone.shape
    step = max(1, values_at_once // max(1, samples * features))

    def compared(first: int) -> Tensor:
        layers = slice(first, first + step)
        x, y = _upcast(backbone[layers], modality, "the backbone"), _upcast(expert[layers], modality, owner)
        return compare(moved(x, device), moved(y, device))

    return torch.cat([compared(first) for first in range(0, depth, step)])


def _most_samples(signals: Signals) -> int:
    return max(_response(signals.backbone, name, "the backbone").shape[1] for name in signals.modalities)


def _response(responses: Mapping[str, Layered], modality: str, owner: str) -> Layered:
    if modality not in responses:
        raise InputError(f"{owner} has no responses for modality {modality!r}: probe again with that modality")
    return responses[modality]


def _upcast(tensor: Tensor, modality: str, owner: str) -> Tensor:
    if not all_finite(tensor):
        raise InputError(
            f"{owner} has NaN or infinite responses for modality {modality!r} in {number_format(tensor.dtype)}: probe "
            "in float32"
        )
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
