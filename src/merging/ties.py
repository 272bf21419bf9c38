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
from src.merging.entrywise import elected_mean, merge_entrywise
from src.merging.settings import DeltaSettings, check_fraction
from src.merging.space import dense_delta
from src.specialists.lora import LoraState


@dataclass(frozen=True)
class TiesSettings(DeltaSettings):
    """Settings of TIES.

    Attributes:
        keep: share of each expert's entries that survive the trim, counted over the whole adapter.
    """

    keep: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction("keep", self.keep)


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
    thresholds = [trim_threshold(state, settings.keep) for state in inputs.experts.values()]

    def rule(module: str, deltas: Tensor) -> Tensor:
        return elected_mean(torch.stack([trim(delta, at) for delta, at in zip(deltas, thresholds, strict=True)]))

    return merge_entrywise(inputs, settings, rule)


def trim_threshold(state: LoraState, keep: float) -> float:
    """Magnitude of the smallest entry among the ``keep`` share of largest ones, over all modules together."""
    magnitudes = torch.cat([dense_delta(factors).abs().flatten() for factors in state.modules.values()])
    kept = max(1, round(keep * len(magnitudes)))
    return float(magnitudes.kthvalue(len(magnitudes) - kept + 1).values)


def trim(delta: Tensor, threshold: float) -> Tensor:
    """Entries below the threshold in magnitude become zero."""
    return torch.where(delta.abs() >= threshold, delta, torch.zeros_like(delta))
