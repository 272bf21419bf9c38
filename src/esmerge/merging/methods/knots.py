"""KnOTS: align the updates by one joint SVD, then merge them entry by entry (arXiv 2410.19735).

``[ΔW_1 | … | ΔW_N] = U S [V_1; …; V_N]ᵀ`` gives every expert coordinates in the same output directions U. The
``S V_iᵀ`` are merged, by TIES or by DARE with TIES's election, and mapped back by U. They are found from the cores in
shared bases; no dense update is formed.

The paper merges the ``V_iᵀ`` and multiplies by S afterwards; its authors' code merges the ``S V_iᵀ``, and so does this.
Election, mean and drop come out the same, the trim does not: all rows of ``[V_1; …; V_N]ᵀ`` have norm 1, so a trim of V
would leave the weakest direction as many entries as the strongest. As in their code, the trim counts over the whole
adapter. Signs of singular vectors cancel; the result is unique as long as the joint singular values differ.

Differences from the authors' code, on purpose: it leaves alpha / r out; its bound on singular values is 1e-5 whatever
their size, here it is relative to the largest one of the module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from esmerge.adapters.lora import LoraFactors
from esmerge.core import torch_rng
from esmerge.core.errors import ConfigError
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.core.validation import check_choice, check_fraction
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.ops.entrywise import elected_mean
from esmerge.merging.ops.selection import drop_and_rescale, thresholds, trimmed
from esmerge.merging.ops.settings import DeltaSettings
from esmerge.merging.ops.shared_basis import shared_basis
from esmerge.merging.ops.spectral import factors_of, merge_low_rank, significant

THEN = ("ties", "dare")


@dataclass(frozen=True)
class KnotsSettings(DeltaSettings):
    """Settings of KnOTS. The defaults are the authors' for Llama-3 8B with LoRA of rank 16.

    Attributes:
        scale: λ; theirs is 0.5 with TIES and 0.4 with DARE (vision: 0.5 to 0.7).
        then: what merges the aligned updates: ``ties``, or ``dare`` (drop, then TIES's election without its trim).
        keep: only for ``ties``: share of each expert's entries that survive the trim, over the whole adapter. Theirs
            is 1, no trim (vision: 0.2).
        drop: only for ``dare``: the probability that an entry is dropped. Theirs is 0.8 (vision: 0.1).
    """

    scale: float = 0.5
    then: str = "ties"
    keep: float = 1.0
    drop: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("then", self.then, THEN)
        check_fraction("keep", self.keep)
        if not 0 <= self.drop < 1:
            raise ConfigError(f"method.drop={self.drop} must be at least 0 and less than 1")


@dataclass(frozen=True)
class KnotsDareSettings(KnotsSettings):
    """KnOTS with DARE at the authors' values."""

    scale: float = 0.4
    then: str = "dare"


@dataclass(frozen=True)
class Aligned:
    """``ΔW_i = left @ rows[i]``.

    Attributes:
        left: U, (out_features, k), orthonormal columns; k is the rank of all updates together.
        rows: S V_iᵀ, (N, k, in_features).
    """

    left: Tensor
    rows: Tensor


@MERGES.register(
    "knots",
    KnotsSettings,
    MergeInfo(
        title="KnOTS + TIES",
        source="arXiv 2410.19735",
        kind=MethodKind.MERGE,
        spaces=("delta",),
    ),
)
@MERGES.register(
    "knots_dare",
    KnotsDareSettings,
    MergeInfo(
        title="KnOTS + DARE",
        source="arXiv 2410.19735",
        kind=MethodKind.MERGE,
        spaces=("delta",),
    ),
)
def knots(inputs: MergeInput, settings: KnotsSettings) -> Merged:
    """``λ · U · merge_i(S V_iᵀ)``, entry by entry."""
    trims = settings.then == "ties" and settings.keep < 1
    least = _thresholds(inputs, settings.keep) if trims else torch.zeros(len(inputs.experts), device=inputs.device)

    def rule(module: str, parts: Mapping[str, LoraFactors]) -> LoraFactors:
        basis = aligned(parts)
        dropped = settings.then == "dare"
        rows = _drop(inputs, module, basis, settings.drop) if dropped else trimmed(basis.rows, least)
        return LoraFactors(elected_mean(rows), basis.left, 1.0)

    return merge_low_rank(inputs, settings, rule)


def aligned(parts: Mapping[str, LoraFactors]) -> Aligned:
    """The joint SVD of one module's updates, without the directions that no update has.

    With ``ΔW_i = P C_i Qᵀ`` the joint matrix is ``P [C_1 | … | C_N]`` times a matrix with orthonormal rows, so U is P
    times the left singular vectors of the cores side by side, and ``S V_iᵀ = Uᵀ ΔW_i``.
    """
    basis = shared_basis(parts)
    u, values, _ = torch.linalg.svd(torch.cat(list(basis.cores), dim=1), full_matrices=False)
    u = u[:, : max(1, int(significant(values).sum()))]
    return Aligned(basis.left @ u, u.T @ basis.cores @ basis.right.T)


def _thresholds(inputs: MergeInput, keep: float) -> Tensor:
    """TIES's trim over all modules' rows together, (N,); the rows are as small as the adapters, so they are held."""
    modules = next(iter(inputs.experts.values())).modules
    rows = [aligned(factors_of(inputs.experts, module)).rows for module in modules]
    return thresholds(lambda: rows, sum(expert_rows[0].numel() for expert_rows in rows), keep)


def _drop(inputs: MergeInput, module: str, basis: Aligned, drop: float) -> Tensor:
    """DARE's drop; an expert's numbers depend on its name, not on its place."""
    shape, device, dtype = basis.rows.shape[1:], basis.rows.device, basis.rows.dtype
    numbers = [
        torch_rng.uniform(shape, inputs.seed, "knots", name, module, device=device, dtype=dtype)
        for name in inputs.experts
    ]
    return drop_and_rescale(basis.rows, drop, torch.stack(numbers))
