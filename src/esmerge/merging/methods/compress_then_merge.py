"""Compress then merge: shared bases of rank r first, a merge of r × r cores after (arXiv 2606.03723, ICML 2026).

Merging first and truncating after lets the merge leave the low rank that every expert has. Here one U (out, r) and one
V (in, r), with orthonormal columns, are found for all experts: the Tucker-2 decomposition

    max_{U, V} Σ_i ‖Uᵀ T_i V‖²,    T_i = ΔW_i · (β ‖ΔW_i‖ + (1 - β) · mean_j ‖ΔW_j‖) / ‖ΔW_i‖,

whose T_i are the updates with their norms brought together, so that no expert takes all directions. Then the cores
``C_i = Uᵀ ΔW_i V`` of the updates as they are, (r, r), are merged into C, and the result is ``λ · U C Vᵀ``: a LoRA of
rank r, by construction.

It is computed on cores in bases of all updates together, which loses nothing; U and V by alternating between the two
(higher-order orthogonal iteration) from the leading singular vectors of the T_i side by side, and of the T_iᵀ, until
the relative error changes by less than 1e-6. What merges the cores entry by entry, as TIES does, depends on how U and V
are turned: they are the singular vectors that the last step leaves, as in the authors' code, unique up to signs, which
no merge sees.

Differences from the authors' code, on purpose: it leaves alpha / r out, which is in B here. Directions that no update
has are left out of U and V; theirs fills them, if experts together have less than rank r. Trim and election are
those of TIES here: exactly ``keep · n`` entries of each core survive (theirs keeps one more), and entries whose sum is
exactly zero are zero (theirs takes the majority sign).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from esmerge.adapters.lora import LoraFactors
from esmerge.core.errors import ConfigError
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.core.validation import check_choice, check_fraction, shares
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.methods.core_space import MERGED_CORES
from esmerge.merging.ops.settings import DeltaSettings
from esmerge.merging.ops.shared_basis import SharedBasis, shared_basis
from esmerge.merging.ops.spectral import merge_low_rank, significant

STEPS, LEAST_STEPS, TOLERANCE = 1000, 3, 1e-6  # of the iteration, as in the authors' code


@dataclass(frozen=True)
class CompressThenMergeSettings(DeltaSettings):
    """Settings of Compress-then-Merge. The defaults are the authors' for eight LoRAs of rank 16 on CLIP ViT-B/32.

    Attributes:
        scale: λ; theirs is 0.75.
        then: what merges the cores; TIES is theirs.
        keep: share of each core's entries that survive the trim, only for ``ties``; theirs is 0.25.
        norm_weight: β, in [0, 1]: how far an expert has the norm that it was trained to have while U and V are looked
            for, and not the mean of all; theirs is 0.25.
        core_rank: r. None is the largest rank among the experts; theirs is 16, which is the same.
    """

    scale: float = 0.75
    then: str = "ties"
    keep: float = 0.25
    norm_weight: float = 0.25
    core_rank: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("then", self.then, tuple(MERGED_CORES))
        check_fraction("keep", self.keep)
        shares(self, "method", "norm_weight")
        if self.core_rank is not None and self.core_rank < 1:
            raise ConfigError(f"method.core_rank={self.core_rank} must be null or a positive whole number")


@MERGES.register(
    "compress_then_merge",
    CompressThenMergeSettings,
    MergeInfo(
        title="Compress then merge",
        source="arXiv 2606.03723",
        kind=MethodKind.MERGE,
        spaces=("delta",),
    ),
)
def compress_then_merge(inputs: MergeInput, settings: CompressThenMergeSettings) -> Merged:
    """``λ · U C Vᵀ`` with C merged from the experts' r × r cores."""
    merged_core = MERGED_CORES[settings.then]

    def rule(module: str, parts: Mapping[str, LoraFactors]) -> LoraFactors:
        rank = settings.core_rank or max(factors.rank for factors in parts.values())
        basis = compressed(shared_basis(parts), rank, settings.norm_weight)
        return basis.expand(merged_core(basis.cores, settings.keep))

    return merge_low_rank(inputs, settings, rule)


def compressed(basis: SharedBasis, rank: int, norm_weight: float) -> SharedBasis:
    """The bases cut to ``rank`` directions that the experts share, and the updates' cores in them."""
    left, right = shared_subspaces(level_norms(basis.cores, norm_weight), rank)
    return SharedBasis(basis.left @ left, basis.right @ right, left.mT @ basis.cores @ right)


def level_norms(cores: Tensor, weight: float) -> Tensor:
    """Matrices whose norms are ``weight`` times theirs and the rest the mean of all: (N, p, q) -> (N, p, q)."""
    norms = cores.square().sum(dim=(1, 2), keepdim=True).sqrt()
    return cores * torch.where(norms > 0, weight + (1 - weight) * norms.mean() / norms, 0.0)


def shared_subspaces(matrices: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Tucker-2 of matrices: (N, p, q) -> orthonormal columns (p, r) and (q, r), r at most ``rank`` and their rank."""
    square = matrices.square().sum()
    left, right = leading_directions(matrices, rank), leading_directions(matrices.mT, rank)
    last = torch.inf
    for step in range(STEPS if square > 0 else 0):
        left = leading_directions(matrices @ right, rank)
        right = leading_directions(matrices.mT @ left, rank)
        lost = square - (left.mT @ matrices @ right).square().sum()
        error = float((lost.abs() / square).sqrt())
        if step + 1 >= LEAST_STEPS and abs(last - error) < TOLERANCE:
            break
        last = error
    return left, right


def leading_directions(matrices: Tensor, rank: int) -> Tensor:
    """Leading left singular vectors of matrices side by side, none without a singular value: (N, p, q) -> (p, r)."""
    u, values, _ = torch.linalg.svd(matrices.movedim(0, 1).flatten(1), full_matrices=False)
    leading: Tensor = u[:, : max(1, min(rank, int(significant(values).sum())))]
    return leading
