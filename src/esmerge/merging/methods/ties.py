"""TIES: trim, elect sign, merge (arXiv 2306.01708).

Differences from the authors' code, on purpose: exactly ``keep · n`` entries survive the trim (theirs keeps one more),
and an entry whose trimmed values sum to exactly zero is zero, as the paper's formula says (their code falls back to the
majority sign of the whole model).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.core.validation import check_fraction
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.ops.entrywise import elected_mean, merge_entrywise, stacked_deltas
from esmerge.merging.ops.selection import thresholds, trimmed
from esmerge.merging.ops.settings import DeltaSettings


@dataclass(frozen=True)
class TiesSettings(DeltaSettings):
    """Settings of TIES.

    Attributes:
        keep: share of each expert's entries that survive the trim, counted over the whole adapter.
    """

    keep: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction("keep", self.keep)


@MERGES.register(
    "ties",
    TiesSettings,
    MergeInfo(
        title="TIES",
        source="arXiv 2306.01708",
        kind=MethodKind.MERGE,
        spaces=("delta",),
    ),
)
def ties(inputs: MergeInput, settings: TiesSettings) -> Merged:
    """Keep each expert's largest entries, elect the sign of their sum, average the entries that agree with it."""
    least = trim_thresholds(inputs, settings.keep)
    return merge_entrywise(inputs, settings, lambda _, deltas: elected_mean(trimmed(deltas, least)))


def trim_thresholds(inputs: MergeInput, keep: float) -> Tensor:
    """Magnitude of the smallest entry that each expert keeps, counted over all modules together, (N,)."""
    header = next(iter(inputs.experts.values())).header
    count = sum(entry.numel for entry in header.values())
    return thresholds(lambda: (stacked_deltas(inputs, module) for module in header), count, keep)
