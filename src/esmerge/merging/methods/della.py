"""DELLA: drop small entries more often than large ones, elect signs, average (arXiv 2406.11617).

MagPrune ranks the entries of each row by magnitude. The probability of being dropped falls linearly with the rank, from
p + ε for the smallest entry to p − ε for the largest, and an entry that stays is divided by 1 − its own probability.
Then follow the sign election and the disjoint mean of TIES, without its trim.

Differences from other code, on purpose: ``epsilon`` is half the width of the window, as in mergekit (the authors'
``window_size`` is the whole width); rescaling is by each entry's own probability, as in the authors' code (mergekit
restores the L1 norm of each tensor); an entry whose values sum to exactly zero is zero (both take the sum as positive).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from esmerge.core.errors import ConfigError
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.methods.dare import uniform_numbers
from esmerge.merging.ops.entrywise import elected_mean, merge_entrywise
from esmerge.merging.ops.selection import drop_and_rescale
from esmerge.merging.ops.settings import DeltaSettings


@dataclass(frozen=True)
class DellaSettings(DeltaSettings):
    """Settings of DELLA. The defaults are those of the authors' example (drop rate 0.3, window 0.14, λ 1.1).

    Attributes:
        scale: λ.
        drop: p, the mean probability that an entry is dropped; 1 − density.
        epsilon: how far the probability departs from ``drop`` at either end of a row's ranking.
    """

    scale: float = 1.1
    drop: float = 0.3
    epsilon: float = 0.07

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.epsilon <= self.drop < 1 - self.epsilon:
            raise ConfigError(
                f"method.drop={self.drop} and method.epsilon={self.epsilon}: epsilon must not be negative, drop − "
                "epsilon must be at least 0 and drop + epsilon less than 1"
            )


@MERGES.register(
    "della",
    DellaSettings,
    MergeInfo(
        title="DELLA",
        source="arXiv 2406.11617",
        kind=MethodKind.MERGE,
        spaces=("delta",),
    ),
)
def della(inputs: MergeInput, settings: DellaSettings) -> Merged:
    """Drop and rescale entries by their rank in magnitude, elect signs, average the entries that agree."""

    def rule(module: str, deltas: Tensor) -> Tensor:
        drop = drop_by_rank(deltas, settings.drop, settings.epsilon)
        return elected_mean(drop_and_rescale(deltas, drop, uniform_numbers(inputs, module).to(deltas)))

    return merge_entrywise(inputs, settings, rule)


def drop_by_rank(values: Tensor, drop: float, epsilon: float) -> Tensor:
    """MagPrune's probabilities: from p + ε at the smallest magnitude of each row to p − ε at the largest.

    Args:
        values: (..., n), ranked along the last dimension.
        drop: p.
        epsilon: ε.

    Returns:
        One probability per entry; their mean over a row is p.
    """
    ladder = torch.linspace(drop + epsilon, drop - epsilon, values.shape[-1], dtype=values.dtype, device=values.device)
    order = values.abs().argsort(dim=-1, stable=True)
    return torch.empty_like(values).scatter(-1, order, ladder.expand_as(values))
