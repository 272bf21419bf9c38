"""PCB-Merging: parameters compete within and between the experts (arXiv 2410.02396).

With N experts and their task vectors ΔW_i:

    intra_i = exp(N · norm(|ΔW_i|)²)          how much the entry counts within its expert
    inter_i = tanh(ΔW_i ⊙ Σ_j ΔW_j)           whether the experts agree on it
    score_i = intra_i ⊙ inter_i
    β_i     = norm(score_i), 0 where the score is not among the largest ``ratio`` of expert i
    merged  = λ · Σ_i β_i ⊙ ΔW_i / Σ_i β_i

where ``norm`` maps the smallest value to 0 and the largest to 1. This is what the authors' code does in place of the
softmaxes of the paper's formulas. As there, smallest, largest and share are those of the whole model: they are taken
over all modules of the adapter, by four streaming passes with one module's dense updates in memory at a time. As there,
too, the magnitudes are first clamped to their inner quantiles, and the updates enter tanh at their own size.

Differences from the authors' code, on purpose: ``ratio`` of the entries keep a score above 0 (theirs one fewer) and as
many entries are clamped above as below; entries that every expert dropped are 0 by rule rather than by a floor of 1e-12
under the division; a range of a single value is not divided by; the exponent is shifted by −N, which ``norm`` cancels,
so that many experts do not overflow it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from esmerge.core.errors import ConfigError
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.core.validation import check_fraction
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.ops.entrywise import merge_entrywise, stacked_deltas
from esmerge.merging.ops.settings import DeltaSettings
from esmerge.merging.ops.streaming import order_statistics


@dataclass(frozen=True)
class PcbSettings(DeltaSettings):
    """Settings of PCB-Merging. The defaults are those of the authors' language-model code.

    Attributes:
        scale: λ. Without tuning 1; the authors search 0.8 to 2.2.
        ratio: share of each expert's entries that is kept, counted over the whole adapter. The authors use 0.05, 0.1
            and 0.2.
        outliers: share of the smallest and share of the largest magnitudes that are clamped before all else.
    """

    ratio: float = 0.1
    outliers: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction("ratio", self.ratio)
        if not 0 <= self.outliers < 0.5:
            raise ConfigError(f"method.outliers={self.outliers} must be at least 0 and less than 0.5")


@dataclass(frozen=True)
class Range:
    """One range of values per expert, over the whole adapter: ``low`` and ``high`` are (N,)."""

    low: Tensor
    high: Tensor

    def clamp(self, values: Tensor) -> Tensor:
        """Values (N, *shape) outside the range become its ends."""
        return values.clamp(_column(self.low, values), _column(self.high, values))

    def norm(self, values: Tensor) -> Tensor:
        """Values (N, *shape) clamped and mapped to [0, 1].

        Where a range is a single value, what reaches it becomes 1, unless it is 0: such an expert learned nothing.
        """
        low, high = _column(self.low, values), _column(self.high, values)
        width = high - low
        return torch.where(width > 0, (self.clamp(values) - low) / width, ((values >= high) & (high > 0)).to(values))


@MERGES.register(
    "pcb",
    PcbSettings,
    MergeInfo(
        title="PCB-Merging",
        source="arXiv 2410.02396",
        kind=MethodKind.MERGE,
        spaces=("delta",),
    ),
)
def pcb(inputs: MergeInput, settings: PcbSettings) -> Merged:
    """Weigh each entry by its score within and between the experts, drop low scores, take the weighted mean."""
    magnitudes = magnitude_range(inputs, settings.outliers)
    score_ranks = score_range(inputs, magnitudes, settings.ratio)

    def rule(module: str, deltas: Tensor) -> Tensor:
        weights = score_ranks.norm(scores(deltas, magnitudes))
        return weighted_mean(deltas.sign() * magnitudes.clamp(deltas.abs()), weights)

    return merge_entrywise(inputs, settings, rule)


def scores(deltas: Tensor, magnitudes: Range) -> Tensor:
    """Intra- times inter-balancing of one module's updates, (N, out, in) -> (N, out, in), float32 as it is ranked."""
    intra = torch.exp(len(deltas) * (magnitudes.norm(deltas.abs()).square() - 1))
    total = deltas.sum(dim=0, dtype=torch.float64).to(deltas)  # so that a rank does not depend on the experts' order
    return (intra * torch.tanh(deltas * total)).float()


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """``Σ w_i ⊙ v_i / Σ w_i`` over the first dimension; 0 where no weight is above 0."""
    total = weights.sum(dim=0)
    return torch.where(total > 0, (weights / torch.where(total > 0, total, 1.0) * values).sum(dim=0), 0.0)


def magnitude_range(inputs: MergeInput, outliers: float) -> Range:
    """Inner quantiles of each expert's magnitudes."""
    count = _entries(inputs)
    cut = int(outliers * count)
    ends = order_statistics(lambda: (deltas.abs() for deltas in _all_deltas(inputs)), (cut, count - 1 - cut))
    return Range(*ends.unbind(dim=1))


def score_range(inputs: MergeInput, magnitudes: Range, ratio: float) -> Range:
    """From each expert's largest score that is dropped to its largest score."""
    count = _entries(inputs)
    dropped = max(0, count - 1 - max(1, round(ratio * count)))
    ends = order_statistics(
        lambda: (scores(deltas, magnitudes) for deltas in _all_deltas(inputs)), (dropped, count - 1)
    )
    return Range(*ends.unbind(dim=1))


def _all_deltas(inputs: MergeInput) -> Iterator[Tensor]:
    """Every module's updates (N, out, in), made one module at a time."""
    return (stacked_deltas(inputs, module) for module in next(iter(inputs.experts.values())).modules)


def _entries(inputs: MergeInput) -> int:
    return sum(entry.numel for entry in next(iter(inputs.experts.values())).header.values())


def _column(ends: Tensor, values: Tensor) -> Tensor:
    """(N,) -> (N, 1, …), to meet (N, *shape)."""
    return ends.to(values).view(-1, *[1] * (values.ndim - 1))
