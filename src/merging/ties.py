"""TIES: trim, elect sign, merge (arXiv 2306.01708).

Differences from the authors' code, on purpose: exactly ``keep · n`` entries survive the trim (theirs keeps one more),
and an entry whose trimmed values sum to exactly zero is zero, as the paper's formula says (their code falls back to the
majority sign of the whole model).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from src.merging import MERGES, Merged, MergeInput
from src.merging.low_rank import assemble, common_dtype, factorise
from src.merging.settings import EXACT, check_fraction, check_positive, check_rank
from src.merging.space import dense_delta
from src.specialists.lora import LoraState, check_mergeable


@dataclass(frozen=True)
class TiesSettings:
    """Settings of TIES.

    Attributes:
        keep: share of each expert's entries that survive the trim, counted over the whole adapter.
        scale: λ, multiplies the merged task vector.
        rank: ``exact`` keeps the merged update lossless, a number truncates it by SVD.
    """

    keep: float = 0.2
    scale: float = 1.0
    rank: str | int = EXACT

    def __post_init__(self) -> None:
        check_fraction("keep", self.keep)
        check_positive("scale", self.scale)
        check_rank(self.rank)


@MERGES.register(
    "ties",
    TiesSettings,
    title="TIES",
    spaces=("delta",),
    source="arXiv 2306.01708",
    needs_signals=False,
    convex=False,
)
def ties(inputs: MergeInput, settings: TiesSettings) -> Merged:
    """Keep each expert's largest entries, elect the sign of their sum, average the entries that agree with it."""
    experts = inputs.experts
    check_mergeable(experts, inputs.space)
    dtype = common_dtype(experts)
    thresholds = {name: trim_threshold(state, settings.keep) for name, state in experts.items()}
    merged = {}
    for module in next(iter(experts.values())).modules:
        deltas = {name: dense_delta(state.modules[module]) for name, state in experts.items()}
        trimmed = torch.stack([trim(delta, thresholds[name]) for name, delta in deltas.items()])
        merged[module] = factorise(settings.scale * disjoint_mean(trimmed), settings.rank, dtype)
    return Merged(assemble(experts, merged))


def trim_threshold(state: LoraState, keep: float) -> float:
    """Magnitude of the smallest entry among the ``keep`` share of largest ones, over all modules together."""
    magnitudes = torch.cat([dense_delta(factors).abs().flatten() for factors in state.modules.values()])
    kept = max(1, round(keep * len(magnitudes)))
    return float(magnitudes.kthvalue(len(magnitudes) - kept + 1).values)


def trim(delta: Tensor, threshold: float) -> Tensor:
    """Entries below the threshold in magnitude become zero."""
    return torch.where(delta.abs() >= threshold, delta, torch.zeros_like(delta))


def disjoint_mean(trimmed: Tensor) -> Tensor:
    """Mean over the experts whose entry is not zero and has the elected sign; (N, *shape) -> (*shape)."""
    elected = trimmed.sum(dim=0).sign()
    agreeing = (trimmed.sign() == elected) & (elected != 0)
    total = torch.where(agreeing, trimmed, torch.zeros_like(trimmed)).sum(dim=0)
    return total / agreeing.sum(dim=0).clamp_min(1)
