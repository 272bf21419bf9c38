"""AdaMerging, layer-wise: coefficients that minimise the entropy of the answers (arXiv 2310.02575).

It reads the test questions, though not their answers, and so stands apart from merges that do not. How the coefficients
are fitted, and where that differs from the authors' code, stands beside the measure ``entropy``. AdaMerging++, which
trims the updates as TIES does before it weighs them, is not included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from esmerge.calibration.statistics.entropy import EntropySettings
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.ops.layerwise import merge_layerwise
from esmerge.merging.ops.settings import DeltaSettings


@dataclass(frozen=True)
class AdaMergingSettings(DeltaSettings):
    """Settings of AdaMerging.

    Attributes:
        scale: λ, on top of the fitted coefficients. Published: 1.
        entropy: how the coefficients are fitted.
    """

    entropy: EntropySettings = field(default_factory=EntropySettings)

    def statistics_settings(self) -> Mapping[str, object]:
        return {"entropy": self.entropy}


@MERGES.register(
    "adamerging",
    AdaMergingSettings,
    MergeInfo(
        title="AdaMerging",
        source="arXiv 2310.02575",
        kind=MethodKind.TASK_AWARE,
        spaces=("delta",),
        needs=("entropy",),
    ),
)
def adamerging(inputs: MergeInput, settings: AdaMergingSettings) -> Merged:
    """``Σ_i c[i, l] · ΔW_i`` with c fitted on unlabelled test questions."""
    return merge_layerwise(inputs, "entropy", settings)
