"""ASWUDI: SWUDI without a constant, its number of directions read off the eigenvalues (arXiv 2606.07289).

The same closed form as SWUDI, X = X₀ + (D V diag(1/Λ) − X₀ V) diag(f) Vᵀ, with f = 1 on the K largest eigenvalues and 0
on the rest; ``K = ⌈(Σ √Λ)² / Σ Λ⌉``, the participation ratio of √Λ over the whole width of the weight, is the number of
directions that the updates really use. It is the authors' default rule, which they also run on LoRA experts; others of
theirs (entropy, stable rank, optimal hard threshold …) are not included.

As in their code every eigenvalue counts as 1e-8 at least, those of the directions that no update has among them.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.methods.swudi import LEAST, ROUNDING, largest, merge_filtered
from esmerge.merging.ops.settings import DeltaSettings


@dataclass(frozen=True)
class AswudiSettings(DeltaSettings):
    """Settings of ASWUDI.

    Attributes:
        scale: λ. Published: 1; 0.2 for five LoRA experts of Qwen2-VL.
    """


@MERGES.register(
    "aswudi",
    AswudiSettings,
    MergeInfo(
        title="ASWUDI",
        source="arXiv 2606.07289",
        kind=MethodKind.MERGE,
        spaces=("delta",),
    ),
)
def aswudi(inputs: MergeInput, settings: AswudiSettings) -> Merged:
    """``λ · X``, exact on the K largest eigenvalues, the sum on the others."""
    return merge_filtered(inputs, settings, lambda values, width: largest(values, participation(values, width)))


def participation(values: Tensor, width: int) -> Tensor:
    """K of eigenvalues (q,), none below the least one, of a weight with ``width`` columns; a single number."""
    empty = width - len(values)
    roots = values.sqrt().sum() + empty * LEAST**0.5
    ratio: Tensor = roots.square() / (values.sum() + empty * LEAST)
    return (ratio - ROUNDING).ceil()
