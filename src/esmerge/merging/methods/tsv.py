"""TSV-Merge: every expert's leading singular triplets, decorrelated between experts (arXiv 2412.00081).

Each update is cut to its leading singular triplets; the vectors of all experts are set side by side; U and V are each
replaced by the nearest matrix with orthonormal columns (orthogonal Procrustes), and the parts are multiplied together
again. It is all done on the cores in shared bases, which turn the singular vectors and change no inner product.

Differences from the authors' code, on purpose. They keep 1/N of a weight's width, which for LoRA experts is more than
the rank: all triplets stay, followed by the arbitrary vectors of empty directions, which the decorrelation then mixes
in. Here the share is one of each expert's own rank, rounded up so that a narrow expert keeps something, and vectors
without a singular value never count. ``keep: 1.0`` keeps every triplet, as theirs does; that is also what
``core_space`` does by default. Where experts share directions exactly, the nearest orthonormal matrix is not unique:
directions that are linearly dependent are left out of it. So N identical experts return what they keep of themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from esmerge.adapters.lora import LoraFactors
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.core.validation import check_fraction
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.ops.settings import DeltaSettings
from esmerge.merging.ops.shared_basis import shared_basis
from esmerge.merging.ops.spectral import merge_low_rank, significant

ROUNDING = 1e-9  # 0.55 · 100 is a little more than 55 in floating point, and must not round up to 56


@dataclass(frozen=True)
class TsvSettings(DeltaSettings):
    """Settings of TSV-Merge.

    Attributes:
        scale: λ; 1 is the paper's, which it recommends without tuning.
        keep: share of each expert's own rank that stays, rounded up; None is 1/N, N being the number of experts.
    """

    keep: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep is not None:
            check_fraction("keep", self.keep)


@MERGES.register(
    "tsv",
    TsvSettings,
    MergeInfo(
        title="TSV-Merge",
        source="arXiv 2412.00081",
        kind=MethodKind.MERGE,
        spaces=("delta",),
        ours=("keep",),
    ),
)
def tsv(inputs: MergeInput, settings: TsvSettings) -> Merged:
    """``λ · U⊥ S V⊥ᵀ`` of the experts' leading singular triplets."""
    share = 1 / len(inputs.experts) if settings.keep is None else settings.keep

    def rule(module: str, parts: Mapping[str, LoraFactors]) -> LoraFactors:
        basis = shared_basis(parts)
        return basis.expand(decorrelated(basis.cores, share))

    return merge_low_rank(inputs, settings, rule)


def decorrelated(cores: Tensor, share: float) -> Tensor:
    """TSV-Merge of matrices: (N, p, q) -> (p, q)."""
    u, values, vt = torch.linalg.svd(cores, full_matrices=False)  # (N, p, m), (N, m), (N, m, q)
    is_leading = leading(values, share)
    left = nearest_orthonormal((u * is_leading[:, None, :]).movedim(0, 1).flatten(1))  # (p, N·m)
    right = nearest_orthonormal((vt * is_leading[:, :, None]).flatten(0, 1).T)  # (q, N·m)
    merged: Tensor = left * (values * is_leading).flatten() @ right.T
    return merged


def leading(values: Tensor, share: float) -> Tensor:
    """Which singular values are the leading share of each expert's rank: (N, m), largest first -> (N, m) of bool."""
    ranks = significant(values).sum(dim=-1, keepdim=True)
    return torch.arange(values.shape[-1], device=values.device) < (share * ranks.double() - ROUNDING).ceil()


def nearest_orthonormal(columns: Tensor) -> Tensor:
    """The polar factor ``P Qᵀ`` of ``P D Qᵀ`` on the span of the columns: (height, n) -> (height, n).

    It is the nearest matrix with orthonormal columns where the columns are independent (with orthonormal rows where
    there are more columns than rows); columns of zeros stay zero.
    """
    p, values, qt = torch.linalg.svd(columns, full_matrices=False)
    polar: Tensor = (p * significant(values)) @ qt
    return polar
