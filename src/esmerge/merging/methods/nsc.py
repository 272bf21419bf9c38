"""NSC, null-space compression: coefficients that keep inputs out of the adapters' null spaces (arXiv 2603.26317).

``ΔW* = Σ_i c[i, module] · ΔW_i`` with one coefficient per expert and module, fitted on unlabelled prompts; no output is
looked at. How they are fitted, and where that differs from the authors' code, stands beside the measure
``null_space``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from esmerge.adapters.lora import delta_name, some
from esmerge.calibration.statistics.null_space import NullSpaceSettings
from esmerge.core.errors import AdapterError
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.ops.settings import DeltaSettings
from esmerge.merging.ops.space import combine_deltas


@dataclass(frozen=True)
class NscSettings(DeltaSettings):
    """Settings of NSC.

    Attributes:
        scale: λ, on top of the fitted coefficients. Published: 1.
        null_space: how the coefficients are fitted.
    """

    null_space: NullSpaceSettings = field(default_factory=NullSpaceSettings)

    def statistics_settings(self) -> Mapping[str, object]:
        return {"null_space": self.null_space}


@MERGES.register(
    "nsc",
    NscSettings,
    MergeInfo(
        title="NSC",
        source="arXiv 2603.26317",
        kind=MethodKind.MERGE,
        spaces=("delta",),
        needs=("null_space",),
        ours=("null_space.tokens",),
    ),
)
def nsc(inputs: MergeInput, settings: NscSettings) -> Merged:
    """``Σ_i c[i, module] · ΔW_i`` with fitted c; the merged update keeps a low rank, the sum of the experts'.

    Raises:
        AdapterError: a module has no coefficient.
    """
    measured = inputs.statistics["null_space"]
    for name, state in inputs.experts.items():
        missing = sorted(set(state.modules) - set(measured[name]))
        if missing:
            raise AdapterError(
                f"the measure 'null_space' gives expert {name!r} no coefficient for {some(missing)}: measure with "
                "these experts"
            )
    weights = {
        name: {delta_name(module): measured[name][module].cpu() for module in state.modules}
        for name, state in inputs.experts.items()
    }
    return Merged(combine_deltas(inputs.experts, weights, settings.scale, settings.rank))
