"""ES-Merging: experts weighed by how they move the embedding space (arXiv 2603.14405)."""

from __future__ import annotations

from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.ops.es_family import EVERY, SOURCE, measure, merge_by
from esmerge.merging.ops.settings import ConvexSettings


@MERGES.register(
    "es",
    ConvexSettings,
    MergeInfo(
        title="ES-Merging",
        source=SOURCE,
        kind=MethodKind.ES,
        rank=1,
        spaces=("factors", "delta"),
        granularities=EVERY,
        convex=True,
    ),
)
def es(inputs: MergeInput, settings: ConvexSettings) -> Merged:
    """``Σ coef_i ⊙ A_i`` and ``Σ coef_i ⊙ B_i`` (the paper's), or ``Σ coef_i ⊙ ΔW_i``."""
    return merge_by(inputs, settings, measure(inputs, settings))
