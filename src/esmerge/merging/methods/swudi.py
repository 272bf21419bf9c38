"""SWUDI: the updates' own interference, minimised in closed form and filtered by eigenvalue (arXiv 2606.07289).

WUDI (arXiv 2503.08099) asks of the merged update X that its difference from each ΔW_i vanish on the row space of ΔW_i,
which stands for the inputs that nobody has: ``Σ_i ‖(X − ΔW_i) ΔW_iᵀ‖² / ‖ΔW_i‖²`` is least where ``X C = D``, with

    C = Σ_i ΔW_iᵀ ΔW_i / ‖ΔW_i‖² = V diag(Λ) Vᵀ    and    D = Σ_i ΔW_i ΔW_iᵀ ΔW_i / ‖ΔW_i‖².

That is RegMean with ``ΔW_iᵀ ΔW_i / ‖ΔW_i‖²`` for Gram matrices. Directions of small Λ are mostly noise, and dividing by
them blows it up, so X starts as the sum and goes only as far as a filter f lets each direction:

    X = X₀ + (D V diag(1/Λ) − X₀ V) diag(f) Vᵀ,    X₀ = Σ_i ΔW_i,

with ``f = 1 − exp(−Λ t)``, what gradient flow reaches in time t, on the largest eigenvalues, 0 on the rest. As in the
authors' code no Λ counts as less than 1e-8, and the share of eigenvalues that stay is of the whole width of the weight:
experts of low rank have fewer, so that all of theirs stay unless the share is small.

C lives on the joint row space of the updates. The same equations on the experts' cores in shared bases are exact, and
nothing of the weight's size is formed. An expert that learnt nothing takes no part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from esmerge.adapters.lora import LoraFactors
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.core.validation import above_zero, check_fraction
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.ops.settings import DeltaSettings
from esmerge.merging.ops.shared_basis import shared_basis
from esmerge.merging.ops.spectral import merge_low_rank

LEAST = 1e-8  # no eigenvalue counts as less
ROUNDING = 1e-9  # 0.55 · 100 is a little more than 55 in floating point, and must not round up to 56

Filter = Callable[[Tensor, int], Tensor]
"""(eigenvalues (q,), largest first, width of the weight) -> f, (q,)."""


@dataclass(frozen=True)
class SwudiSettings(DeltaSettings):
    """Settings of SWUDI.

    Attributes:
        time: t of the filter. Published: 300 as the code's default, 1300 for five LoRA experts of Qwen2-VL.
        keep: share of the weight's in_features whose largest eigenvalues count, rounded up. Published: 0.65 as the
            code's default, 0.01 for the LoRA experts of Qwen2-VL.
        scale: λ. Published: 1; 0.2 for the five LoRA experts of Qwen2-VL.
    """

    time: float = 300.0
    keep: float = 0.65

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero(self, "method", "time")
        check_fraction("keep", self.keep)


@MERGES.register(
    "swudi",
    SwudiSettings,
    MergeInfo(
        title="SWUDI",
        source="arXiv 2606.07289",
        kind=MethodKind.MERGE,
        spaces=("delta",),
    ),
)
def swudi(inputs: MergeInput, settings: SwudiSettings) -> Merged:
    """``λ · X`` with the filter ``1 − exp(−Λ t)`` on the largest eigenvalues."""

    def exponential(values: Tensor, width: int) -> Tensor:
        return -torch.expm1(-values * settings.time) * largest(values, math.ceil(settings.keep * width - ROUNDING))

    return merge_filtered(inputs, settings, exponential)


def merge_filtered(inputs: MergeInput, settings: DeltaSettings, filter_of: Filter) -> Merged:
    """``λ · X`` of every module under a filter."""

    def rule(module: str, parts: Mapping[str, LoraFactors]) -> LoraFactors:
        basis = shared_basis(parts)
        return basis.expand(filtered(basis.cores, basis.right.shape[0], filter_of))

    return merge_low_rank(inputs, settings, rule)


def filtered(cores: Tensor, width: int, filter_of: Filter) -> Tensor:
    """X of the updates' cores: (N, p, q) -> (p, q).

    Args:
        cores: the updates in shared orthonormal bases.
        width: in_features of the weight, q of whose eigenvalues the cores hold; the others are zero.
        filter_of: how far each direction goes from the sum to the solution.
    """
    norms = cores.square().sum(dim=(1, 2))
    weights = torch.where(norms > 0, 1 / norms, 0.0)
    squares = cores.mT @ cores
    target = torch.einsum("n,npq->pq", weights, cores @ squares)
    ascending, vectors = torch.linalg.eigh(torch.einsum("n,npq->pq", weights, squares))
    values, vectors = ascending.flip(0).clamp_min(LEAST), vectors.flip(1)
    start = cores.sum(dim=0)
    way = target @ vectors / values - start @ vectors
    merged: Tensor = start + (way * filter_of(values, width)) @ vectors.mT
    return merged


def largest(values: Tensor, count: int | Tensor) -> Tensor:
    """1 for the first ``count`` of the eigenvalues, 0 for the others."""
    return (torch.arange(len(values), device=values.device) < count).to(values)
