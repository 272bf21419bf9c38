"""Plain averaging: every expert counts the same (model soups, arXiv 2203.05482)."""

from __future__ import annotations

from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.ops.settings import ConvexSettings
from esmerge.merging.ops.space import combine, equal_weights


@MERGES.register(
    "average",
    ConvexSettings,
    MergeInfo(
        title="Average",
        source="arXiv 2203.05482",
        kind=MethodKind.MERGE,
        rank=1,
        spaces=("factors", "delta"),
        convex=True,
    ),
)
def average(inputs: MergeInput, settings: ConvexSettings) -> Merged:
    """``1/N · Σ A_i`` and ``1/N · Σ B_i``, or ``1/N · Σ ΔW_i``."""
    weights = equal_weights(inputs.experts, inputs.space, 1 / len(inputs.experts))
    return Merged(combine(inputs.experts, inputs.space, weights, settings))
