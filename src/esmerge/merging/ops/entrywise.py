"""Merges that work on every entry of the dense updates by itself, and the selections that they share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from esmerge.merging.api import Merged, MergeInput
from esmerge.merging.ops.settings import DeltaSettings
from esmerge.merging.ops.space import dense_delta, dense_state

Rule = Callable[[str, Tensor], Tensor]
"""(module name, the experts' updates (N, out, in)) -> merged update (out, in)."""


def merge_entrywise(inputs: MergeInput, settings: DeltaSettings, rule: Rule) -> Merged:
    """``scale`` times what the rule makes of each module's updates, one module in memory at a time."""

    def update(module: str) -> Tensor:
        return settings.scale * rule(module, stacked_deltas(inputs, module))

    return Merged(dense_state(inputs.experts, update, settings.rank))


def stacked_deltas(inputs: MergeInput, module: str) -> Tensor:
    """The experts' dense updates of one module in at least float32, (N, out, in)."""
    return torch.stack([dense_delta(state.modules[module]) for state in inputs.experts.values()])


def elected_mean(values: Tensor) -> Tensor:
    """TIES's sign election and disjoint mean (arXiv 2306.01708): (N, *shape) -> (*shape).

    The sign of the sum is elected; the mean is over the experts whose entry is not zero and has that sign. Entries
    whose sum is exactly zero are zero.
    """
    elected = values.sum(dim=0).sign()
    total, count = torch.zeros_like(elected), torch.zeros_like(elected)
    for update in values:  # one expert at a time: masks and selections of all of them would be as large as the values
        agrees = update * elected > 0
        total += torch.where(agrees, update, 0.0)
        count += agrees
    return total / count.clamp_min(1)
