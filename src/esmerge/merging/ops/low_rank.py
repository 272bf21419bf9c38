"""Merged updates as LoRA factors: stacked where the update is a weighted sum, by truncated SVD where it is dense."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor

from esmerge.adapters.header import ModuleHeader
from esmerge.adapters.lora import LoraFactors, LoraState

SMALL = 512  # widths up to which a dense update gets a full SVD
SEARCHED, OVERSAMPLED, POWER_STEPS = 8, 16, 4  # randomised SVD (arXiv 0909.4061): when, with what margin, how sharp


@dataclass(frozen=True)
class Factored:
    """Factors that stand for an update, and the squared Frobenius norms of what they lost and of the update itself."""

    factors: LoraFactors
    lost: float = 0.0
    norm: float = 0.0


def stack(parts: Sequence[tuple[float, LoraFactors]], dtype: torch.dtype) -> LoraFactors:
    """``Σ w · s · B @ A`` as one product of stacked factors; its rank is the sum of the ranks.

    Parts of weight zero are left out, and the first part's scale is kept, so that one part of weight 1 returns itself.
    """
    used = [(weight, factors) for weight, factors in parts if weight != 0] or [(0.0, parts[0][1])]
    scale = used[0][1].scale
    a = torch.cat([wide(factors.a) for _, factors in used], dim=0)
    b = torch.cat([weight * (factors.scale / scale) * wide(factors.b) for weight, factors in used], dim=1)
    return LoraFactors(a.to(dtype), b.to(dtype), scale)


def stack_header(parts: Sequence[tuple[float, ModuleHeader]], dtype: torch.dtype) -> ModuleHeader:
    """The header of what ``stack`` makes of parts that have these."""
    used = [entry for weight, entry in parts if weight != 0] or [parts[0][1]]
    return replace(used[0], rank=sum(entry.rank for entry in used), a_dtype=dtype, b_dtype=dtype)


def shorten(factors: LoraFactors, rank: int, dtype: torch.dtype) -> Factored:
    """The best approximation of a low-rank update by ``rank`` at most, without forming the dense update.

    QR of both factors leaves a core of (rank of ``factors``)², whose SVD is that of the update.
    """
    left, r_b = torch.linalg.qr(factors.b.double())
    right, r_a = torch.linalg.qr(factors.a.double().T)
    u, values, vt = torch.linalg.svd(factors.scale * r_b @ r_a.T)
    shortened_rank = min(rank, len(values))
    root = values[:shortened_rank].sqrt()
    shortened = LoraFactors(
        (root[:, None] * (vt[:shortened_rank] @ right.T)).to(dtype),
        (left @ u[:, :shortened_rank] * root).to(dtype),
        1.0,
    )
    return Factored(shortened, float(values[shortened_rank:].square().sum()), float(values.square().sum()))


def factorise(delta: Tensor, rank: int, dtype: torch.dtype) -> Factored:
    """Factors of a dense update by truncated SVD; by a randomised one where ``rank`` is far below both widths.

    Args:
        delta: (out_features, in_features), at least float32.
        rank: of the factors, at most.
        dtype: of the factors; the loss reported includes their rounding.
    """
    narrow = min(delta.shape)
    if narrow <= SMALL or narrow <= SEARCHED * rank:
        u, values, vt = torch.linalg.svd(delta, full_matrices=False)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            u, values, v = torch.svd_lowrank(delta, q=rank + OVERSAMPLED, niter=POWER_STEPS)
        vt = v.T
    truncated_rank = min(rank, len(values))
    root = values[:truncated_rank].sqrt()
    factors = LoraFactors(
        (root[:, None] * vt[:truncated_rank]).to(dtype), (u[:, :truncated_rank] * root).to(dtype), 1.0
    )
    lost = (delta - wide(factors.b) @ wide(factors.a)).double().square().sum()
    return Factored(factors, float(lost), float(delta.double().square().sum()))


def assemble(experts: Mapping[str, LoraState], merged: Mapping[str, Factored]) -> LoraState:
    """The merged adapter; its notes give the relative residual over all modules that went through an SVD."""
    norm = sum(factored.norm for factored in merged.values())
    lost = sum(factored.lost for factored in merged.values())
    notes = {"svd_relative_residual": (lost / norm) ** 0.5} if norm > 0 else {}
    return LoraState({name: factored.factors for name, factored in merged.items()}, common_base(experts), notes)


def common_base(experts: Mapping[str, LoraState]) -> str | None:
    """The backbone that all experts name, or None where they disagree or do not know."""
    names = {state.base_model for state in experts.values()}
    return names.pop() if len(names) == 1 else None


def common_dtype(experts: Mapping[str, LoraState]) -> torch.dtype:
    """The narrowest type that holds every expert's factors; merged factors are stored in it."""
    dtypes = {module.dtype for state in experts.values() for module in state.header.values()}
    return reduce(torch.promote_types, dtypes)


def wide(tensor: Tensor) -> Tensor:
    """At least float32: half precision is for storage, not for sums."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def square_norm(factors: LoraFactors) -> Tensor:
    """``‖s · B A‖²`` from the factors' inner products, (r, r) each, in double: ()."""
    a, b = factors.a.double(), factors.b.double()
    return factors.scale**2 * ((a @ a.T) * (b.T @ b)).sum().clamp_min(0)
