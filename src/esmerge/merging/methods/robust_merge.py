"""RobustMerge: LoRA factors pruned, rescaled by what the pruning took, and normalised over experts (arXiv 2502.17159).

For each module, with A_i (rank × in), B_i (out × rank) and one entry of S per expert and rank direction:

    prune:       Â_i, B̂_i = A_i, B_i with the largest ``keep`` share of each factor's entries, zero elsewhere
    complement:  S_i[r] = Σ|A_i[r, :]| / Σ|Â_i[r, :]|, of which each expert's largest ``rescaled`` share stays and the
                 others are raised to the smallest of those
    normalise:   A* = √λ · Σ_i Â_i,   B*[:, r] = √λ · Σ_i S_i[r] · B̂_i[:, r] / Σ_i S_i[r]

The formulas and defaults are the authors' code. It multiplies each factor by 2, which is λ = 4 here.

Differences from it, on purpose: exactly ``keep · n`` entries survive the pruning, ties apart (theirs keeps one more); a
rank direction that loses all of its entries has nothing to compensate, so S is 1 there before it is raised (theirs
divides by zero); experts of different LoRA scale are refused (theirs takes the first one's).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from esmerge.adapters.lora import LazyModules, LoraFactors, LoraState
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.core.validation import check_fraction, check_positive
from esmerge.merging.api import MERGES, MergeConfig, Merged, MergeInput
from esmerge.merging.ops.low_rank import common_base, common_dtype, wide


@dataclass(frozen=True)
class RobustMergeSettings(MergeConfig):
    """Settings of RobustMerge. The defaults are those of the authors' code.

    Attributes:
        scale: λ, multiplies the merged task vector (√λ on each factor).
        keep: share of the entries of each factor that survive the pruning.
        rescaled: share of the rank directions whose own S counts; the others get the smallest S among these.
    """

    scale: float = 4.0
    keep: float = 0.2
    rescaled: float = 0.2

    def __post_init__(self) -> None:
        check_positive("scale", self.scale)
        check_fraction("keep", self.keep)
        check_fraction("rescaled", self.rescaled)


@MERGES.register(
    "robust_merge",
    RobustMergeSettings,
    MergeInfo(
        title="RobustMerge",
        source="arXiv 2502.17159",
        kind=MethodKind.MERGE,
        spaces=("factors",),
    ),
)
def robust_merge(inputs: MergeInput, settings: RobustMergeSettings) -> Merged:
    """Sum the pruned A; take the mean of the pruned B, weighted by what A lost."""
    dtype, first = common_dtype(inputs.experts), next(iter(inputs.experts.values()))
    header = {module: replace(entry, a_dtype=dtype, b_dtype=dtype) for module, entry in first.header.items()}

    def merged(module: str) -> LoraFactors:
        factors = [state.modules[module] for state in inputs.experts.values()]
        a, b = torch.stack([wide(f.a) for f in factors]), torch.stack([wide(f.b) for f in factors])
        merged_a, merged_b = merge_factors(a, b, settings)
        return LoraFactors(merged_a.to(dtype), merged_b.to(dtype), factors[0].scale)

    return Merged(LoraState(LazyModules(header, merged, header), common_base(inputs.experts)))


def merge_factors(a: Tensor, b: Tensor, settings: RobustMergeSettings) -> tuple[Tensor, Tensor]:
    """One module's factors, (N, rank, in) and (N, out, rank) -> (rank, in) and (out, rank)."""
    pruned_a, pruned_b = prune(a, settings.keep), prune(b, settings.keep)
    weights = raise_low(compensation(a, pruned_a), settings.rescaled)[:, None, :]
    root = settings.scale**0.5
    return root * pruned_a.sum(dim=0), root * (weights * pruned_b).sum(dim=0) / weights.sum(dim=0)


def prune(factors: Tensor, keep: float) -> Tensor:
    """Each expert's largest ``keep`` share of entries, zero elsewhere; (N, *shape) -> (N, *shape)."""
    magnitudes = factors.abs()
    flat = magnitudes.flatten(1)
    least = _ascending(flat, flat.shape[1] - max(1, round(keep * flat.shape[1])))
    return torch.where(magnitudes >= least[:, None, None], factors, 0.0)


def _ascending(rows: Tensor, rank: int) -> Tensor:
    """Each row's value at a rank counted from 0, (N, n) -> (N,)."""
    if rows.device.type != "cpu":
        return rows.kthvalue(rank + 1, dim=1).values
    return torch.from_numpy(np.partition(rows.numpy(), rank, axis=1)[:, rank])  # takes half of kthvalue's time


def compensation(a: Tensor, pruned: Tensor) -> Tensor:
    """S: by how much the pruning shrank each rank direction, at least 1; (N, rank, in), (N, rank, in) -> (N, rank)."""
    before, after = a.abs().sum(dim=-1), pruned.abs().sum(dim=-1)
    return torch.where(after > 0, before / torch.where(after > 0, after, 1.0), 1.0)


def raise_low(values: Tensor, share: float) -> Tensor:
    """Each row's values outside its largest ``share`` become the smallest value within it; (N, rank) -> (N, rank)."""
    rank = values.shape[1]
    cut = min(int(rank * (1 - share)), rank - 1)
    return values.maximum(values.sort(dim=1).values[:, cut, None])
