"""Iso-C: the sum of the updates with all its singular values made equal (arXiv 2502.04959).

Difference from the authors' code, on purpose: theirs takes the mean over the whole width of a weight. Updates of LoRA
experts have no more than the sum of their ranks; at full width the mean would be spread over thousands of empty
directions, whose singular vectors are arbitrary. Here the mean is over the singular values that the sum has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from esmerge.adapters.lora import LoraFactors
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.ops.settings import DeltaSettings
from esmerge.merging.ops.shared_basis import shared_basis
from esmerge.merging.ops.spectral import merge_low_rank, significant


@dataclass(frozen=True)
class IsoCSettings(DeltaSettings):
    """Settings of Iso-C.

    Attributes:
        scale: λ. The authors choose it on validation data between 0.1 and 3; 1 keeps the sum of the singular values.
    """


@MERGES.register(
    "iso_c",
    IsoCSettings,
    MergeInfo(
        title="Iso-C",
        source="arXiv 2502.04959",
        kind=MethodKind.MERGE,
        spaces=("delta",),
    ),
)
def iso_c(inputs: MergeInput, settings: IsoCSettings) -> Merged:
    """``λ · mean(σ) · U Vᵀ`` where ``Σ ΔW_i = U diag(σ) Vᵀ``."""

    def rule(module: str, parts: Mapping[str, LoraFactors]) -> LoraFactors:
        basis = shared_basis(parts)
        return basis.expand(flattened(basis.cores.sum(dim=0)))

    return merge_low_rank(inputs, settings, rule)


def flattened(matrix: Tensor) -> Tensor:
    """The matrix with each of its singular values replaced by their mean; a zero matrix stays zero."""
    u, values, vt = torch.linalg.svd(matrix, full_matrices=False)
    present = significant(values)
    mean = (values * present).sum() / present.sum().clamp_min(1)
    isotropic: Tensor = mean * (u * present) @ vt
    return isotropic
