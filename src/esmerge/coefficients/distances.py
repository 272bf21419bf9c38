"""How far every expert moves every modality in every layer, and how sure that is.

Distances are kept apart by blocks of directions and measured again on resampled prompts, so that what is computed from
them can be given a standard error of either kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from esmerge.coefficients.types import ESConfig, Layered, Signals
from esmerge.coefficients.wasserstein import projected_gaps, random_directions, standardise
from esmerge.core.errors import InputError
from esmerge.core.finite import all_finite

VALUES_AT_ONCE = 2**16  # standardised responses held in memory: layers * samples * features; at least one layer's
BLOCKS = 16  # of directions, left out one by one for the standard error
RESAMPLED_DIRECTIONS = 128  # of each bootstrap resample: enough, since all resamples share them


_Compare = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Distances:
    """Sliced Wasserstein distances. N experts, M modalities, L layers.

    Attributes:
        gaps: (G, N, M, L), sum over each block's directions of the mean p-th power of the gap.
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
        return self._root(self.gaps.sum(dim=0), self.counts.sum())

    def without_each_block(self) -> Tensor:
        """The distances with one block of directions left out, (G, N, M, L)."""
        return self._root(self.gaps.sum(dim=0) - self.gaps, (self.counts.sum() - self.counts).view(-1, 1, 1, 1))

    def joined(self, more: Distances) -> Distances:
        """The distances over these directions and those of ``more``."""
        return replace(self, gaps=self.gaps + more.gaps, counts=self.counts + more.counts)

    def resampled_as(self, resampled: Tensor) -> Distances:
        """The same with distances on resampled prompts, (R, N, M, L)."""
        return replace(self, resampled=resampled)

    def _root(self, total: Tensor, count: Tensor) -> Tensor:
        return (total / count).clamp(min=0) ** (1 / self.power)


def layer_distances(signals: Signals, granularity: ESConfig, seed: int) -> Distances:
    """Distance of every expert's responses from the backbone's along ``granularity.projections`` directions.

    All of them use the same directions, so that differences between experts are not projection noise.

    Raises:
        InputError: responses are missing, not finite, or not shaped like the backbone's.
    """
    rounds = direction_rounds(signals, int(granularity.projections), seed)
    return along(signals, next(rounds), granularity)


def direction_rounds(signals: Signals, count: int, seed: int) -> Iterator[Tensor]:
    """Directions for the features of these signals, ``count`` new ones each time, (count, d)."""
    features = _response(signals.backbone, signals.modalities[0], "the backbone").shape[-1]
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield random_directions(features, count, generator)


def along(signals: Signals, directions: Tensor, granularity: ESConfig) -> Distances:
    """The distances along given directions, (projections, features).

    Raises:
        InputError: as of ``layer_distances``.
    """
    blocks = torch.arange(len(directions)) % min(BLOCKS, len(directions))
    pick = torch.nn.functional.one_hot(blocks).double()  # (projections, G)

    def by_block(x: Tensor, y: Tensor) -> Tensor:
        return projected_gaps(*standardise(x, y), directions, granularity.power).double().cpu() @ pick

    gaps = _over_pairs(signals, by_block).movedim(-1, 0)
    return Distances(gaps, pick.sum(dim=0), granularity.power, torch.empty(0, *gaps.shape[1:], dtype=gaps.dtype))


def bootstrapped(signals: Signals, directions: Tensor, granularity: ESConfig, seed: int) -> Tensor:
    """The distances on ``granularity.resamples`` resamples of the probe's prompts, (R, N, M, L).

    A resample draws the same prompts for every model, modality and layer, and is measured along the first few of the
    directions, the same every time.
    """
    few, power = directions[:RESAMPLED_DIRECTIONS], granularity.power
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(granularity.resamples, _most_samples(signals), generator=generator)

    def resample(x: Tensor, y: Tensor) -> Tensor:
        drawn = (uniform[:, : x.shape[1]] * x.shape[1]).long()
        found = torch.empty(len(x), len(drawn), dtype=torch.float64)
        for column, rows in enumerate(drawn):
            found[:, column] = projected_gaps(*standardise(x[:, rows], y[:, rows]), few, power).mean(dim=-1)
        return found ** (1 / power)

    return _over_pairs(signals, resample).movedim(-1, 0)


def _over_pairs(signals: Signals, compare: _Compare) -> Tensor:
    """``compare(backbone's, expert's responses of some layers) -> (layers, C)`` for all pairs: (N, M, L, C)."""
    rows = []
    for expert in signals.experts:
        responses, owner = signals.responses.get(expert, {}), f"expert {expert!r}"
        rows.append(torch.stack([_compared(signals, responses, name, owner, compare) for name in signals.modalities]))
    return torch.stack(rows)


def _compared(
    signals: Signals, responses: Mapping[str, Layered], modality: str, owner: str, compare: _Compare
) -> Tensor:
    """One expert and modality, a few layers at a time: (L, C)."""
    base = _response(signals.backbone, modality, "the backbone")
    own = _response(responses, modality, owner)
    if base.shape != own.shape:
        raise InputError(f"responses differ in shape: backbone {tuple(base.shape)}, expert {tuple(own.shape)}")
    depth, samples, features = base.shape
    step = max(1, VALUES_AT_ONCE // max(1, samples * features))

    def block(first: int) -> Tensor:
        these = slice(first, first + step)
        return compare(_wide(base[these], modality, "the backbone"), _wide(own[these], modality, owner))

    return torch.cat([block(first) for first in range(0, depth, step)])


def _most_samples(signals: Signals) -> int:
    return max(_response(signals.backbone, name, "the backbone").shape[1] for name in signals.modalities)


def _response(responses: Mapping[str, Layered], modality: str, owner: str) -> Layered:
    if modality not in responses:
        raise InputError(f"{owner} has no responses for modality {modality!r}: probe again with that modality")
    return responses[modality]


def _wide(tensor: Tensor, modality: str, owner: str) -> Tensor:
    if not all_finite(tensor):
        raise InputError(f"{owner} has NaN or infinite responses for modality {modality!r}: probe in float32")
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
