"""Task arithmetic: the scaled sum of the experts' task vectors (arXiv 2212.04089)."""

from __future__ import annotations

from dataclasses import dataclass

from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.ops.settings import DeltaSettings
from esmerge.merging.ops.space import combine_deltas, equal_weights


@dataclass(frozen=True)
class TaskArithmeticSettings(DeltaSettings):
    """Settings of task arithmetic.

    Attributes:
        scale: λ. The authors choose it on validation data between 0 and 1; 0.4 is their value for when there is none,
            as quoted by TIES (arXiv 2306.01708).
    """

    scale: float = 0.4


@MERGES.register(
    "task_arithmetic",
    TaskArithmeticSettings,
    MergeInfo(
        title="Task arithmetic",
        source="arXiv 2212.04089",
        kind=MethodKind.MERGE,
        spaces=("delta",),
    ),
)
def task_arithmetic(inputs: MergeInput, settings: TaskArithmeticSettings) -> Merged:
    """``λ · Σ ΔW_i``."""
    weights = equal_weights(inputs.experts, "delta", 1.0)
    return Merged(combine_deltas(inputs.experts, weights, settings.scale, settings.rank))
