"""RegMean++: RegMean on what the merged layers below really hand up (arXiv 2508.03121).

The same least squares, ``ΔW* = Σ ΔW_i G_i (Σ_j G_j)⁻¹``; only the Gram matrices differ: layers are merged in depth
order, and each ``G_i`` is of expert i's layer on top of the layers that are merged already. How they are measured
stands beside the measure ``propagated_gram``. The authors' factor on off-diagonal entries is 0.95 for
CLIP, and their default for other models 0.1.

Differences from their code, on purpose: those of RegMean; and the inputs of an expert are the probe's, at the tokens of
its own modality (``gram.tokens: all`` counts every token, as theirs).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from esmerge.calibration.statistics.propagated_gram import PropagatedGramSettings
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.methods.regmean import merge_through
from esmerge.merging.ops.settings import DeltaSettings


@dataclass(frozen=True)
class RegMeanPlusPlusSettings(DeltaSettings):
    """Settings of RegMean++.

    Attributes:
        gram: how the Gram matrices are measured, with the factor on their off-diagonal entries: it decides what the
            layers below hand up.
    """

    gram: PropagatedGramSettings = field(default_factory=PropagatedGramSettings)

    def statistics_settings(self) -> Mapping[str, object]:
        return {"propagated_gram": self.gram}


@MERGES.register(
    "regmean_plus_plus",
    RegMeanPlusPlusSettings,
    MergeInfo(
        title="RegMean++",
        source="arXiv 2508.03121",
        kind=MethodKind.MERGE,
        spaces=("delta",),
        needs=("propagated_gram",),
        convex=True,
        ours=("gram.tokens",),
    ),
)
def regmean_plus_plus(inputs: MergeInput, settings: RegMeanPlusPlusSettings) -> Merged:
    """``Σ ΔW_i G_i (Σ_j G_j)⁻¹`` with Gram matrices of inputs that the merged layers below made."""
    return merge_through(inputs, "propagated_gram", settings.gram.off_diagonal, settings)
