"""Expert Merging: coefficients fitted to the experts' own hidden states and predictions (arXiv 2509.25712).

How they are fitted, and where that differs from the authors' code, stands beside the measure ``alignment``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from esmerge.calibration.statistics.alignment import AlignmentSettings
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.ops.layerwise import merge_layerwise
from esmerge.merging.ops.settings import DeltaSettings


@dataclass(frozen=True)
class ExpertMergingSettings(DeltaSettings):
    """Settings of Expert Merging.

    Attributes:
        scale: λ, on top of the fitted coefficients. Published: 1.
        alignment: how the coefficients are fitted.
    """

    alignment: AlignmentSettings = field(default_factory=AlignmentSettings)

    def statistics_settings(self) -> Mapping[str, object]:
        return {"alignment": self.alignment}


@MERGES.register(
    "expert_merging",
    ExpertMergingSettings,
    MergeInfo(
        title="Expert Merging",
        source="arXiv 2509.25712",
        kind=MethodKind.MERGE,
        spaces=("delta",),
        needs=("alignment",),
    ),
)
def expert_merging(inputs: MergeInput, settings: ExpertMergingSettings) -> Merged:
    """``Σ_i c[i, l] · ΔW_i`` with c fitted on unlabelled prompts."""
    return merge_layerwise(inputs, "alignment", settings)
