"""EMR-Merging: elect one unified task vector, then mask and rescale it for the task at hand (arXiv 2405.17461).

    elect:    τ = sign(Σ_i ΔW_i) ⊙ max_i |ΔW_i|, the maximum over the experts that have the elected sign
    mask:     M_i = 1 where ΔW_i and τ have the same sign, else 0
    rescale:  λ_i = Σ|ΔW_i| / Σ|M_i ⊙ τ|, sums over the whole adapter
    merged    = λ_i · M_i ⊙ τ for a question that concerns expert i

It has to know the task of each question, and so stands apart from merges that answer all questions with one model. A
question that concerns several experts, which the paper does not have, gets the union of their masks, and the mean of
their Σ|ΔW_i| above the fraction's line; with one expert this is the paper's formula.

Differences from the authors' code, on purpose: an entry whose updates sum to exactly zero is zero, as the paper's sign
says (their code elects minus); the rescaler sums over all entries alike, as in the paper (most of their code adds up
each tensor's mean, by which small tensors count as much as large ones). The sums are taken in one pass over the
modules, with one module's dense updates in memory at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.ops.entrywise import merge_entrywise, stacked_deltas
from esmerge.merging.ops.settings import DeltaSettings


@dataclass(frozen=True)
class EmrSettings(DeltaSettings):
    """Settings of EMR-Merging, which has nothing to tune.

    Attributes:
        scale: on top of the rescaler. Published: 1.
    """


@MERGES.register(
    "emr",
    EmrSettings,
    MergeInfo(
        title="EMR-Merging",
        source="arXiv 2405.17461",
        kind=MethodKind.TASK_AWARE,
        spaces=("delta",),
        per_task=True,
    ),
)
def emr(inputs: MergeInput, settings: EmrSettings) -> Merged:
    """The unified task vector, masked and rescaled for the experts in ``inputs.task``."""
    concerned = [index for index, name in enumerate(inputs.experts) if name in inputs.task]
    factor = rescaler(inputs, concerned)
    return merge_entrywise(inputs, settings, lambda module, deltas: factor * masked(deltas, concerned))


def elect(deltas: Tensor) -> Tensor:
    """The unified task vector: the sign of the sum, the largest magnitude with that sign; (N, *shape) -> (*shape)."""
    sign = deltas.sum(dim=0).sign()
    return sign * (deltas * sign).clamp_min(0).amax(dim=0)


def masked(deltas: Tensor, concerned: list[int]) -> Tensor:
    """The unified task vector where a concerned expert agrees with its sign, 0 elsewhere; (N, *shape) -> (*shape)."""
    unified = elect(deltas)
    agrees = (deltas[concerned] * unified.sign() > 0).any(dim=0)
    return torch.where(agrees, unified, 0.0)


def rescaler(inputs: MergeInput, concerned: list[int]) -> float:
    """Mean over the concerned experts of ``Σ|ΔW_i|``, divided by ``Σ|masked τ|``; 0 where the mask leaves nothing."""
    total = remaining = torch.zeros((), dtype=torch.float64, device=inputs.device)
    for module in next(iter(inputs.experts.values())).modules:
        deltas = stacked_deltas(inputs, module)
        total = total + deltas[concerned].abs().sum(dtype=torch.float64) / len(concerned)
        remaining = remaining + masked(deltas, concerned).abs().sum(dtype=torch.float64)
    return float(torch.where(remaining > 0, total / remaining, 0.0))
