"""Merges by singular vectors: what they share. They are low-rank throughout, one module at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.merging.api import Merged, MergeInput
from esmerge.merging.ops.settings import DeltaSettings
from esmerge.merging.ops.space import low_rank_state

NOISE = torch.finfo(torch.float32).eps  # relative to the largest singular value: below it is rounding of the factors

Rule = Callable[[str, Mapping[str, LoraFactors]], LoraFactors]
"""(module name, the experts' factors by expert) -> factors of the merged update."""


def merge_low_rank(inputs: MergeInput, settings: DeltaSettings, rule: Rule) -> Merged:
    """``scale`` times what the rule makes of each module's factors."""

    def factors(module: str) -> LoraFactors:
        module_factors = rule(module, factors_of(inputs.experts, module))
        return replace(module_factors, b=settings.scale * module_factors.b)

    return Merged(low_rank_state(inputs.experts, factors, settings.rank))


def factors_of(experts: Mapping[str, LoraState], module: str) -> dict[str, LoraFactors]:
    """One module's factors by expert."""
    return {name: state.modules[module] for name, state in experts.items()}


def significant(values: Tensor) -> Tensor:
    """Which singular values stand above rounding: (..., n), largest first -> (..., n) of bool; none of a zero matrix.

    The vectors of the others are arbitrary, so nothing may be built on them.
    """
    return (values > 0) & (values > NOISE * values.amax(dim=-1, keepdim=True))
