"""RegMean: the update whose outputs come nearest to every expert's, on that expert's own inputs (arXiv 2212.09849).

For a linear layer the least squares over the experts have a closed form, ``W* = (Σ G_i)⁻¹ Σ G_i W_i`` in the paper's
(in, out) weights, with the Gram matrices ``G_i`` of the layer's inputs under expert i. The experts' weights sum to the
identity, so the same holds for their updates, ``ΔW* = Σ ΔW_i G_i (Σ_j G_j)⁻¹``; and since that changes A alone, the
merge keeps a low rank.

As in the paper, off-diagonal entries of every ``G_i`` are multiplied by a factor, 0.9 by default; the authors' settings
use 0.1 for some models, T5 among them. As in their code, Gram matrices are means over tokens.

Differences from their code, on purpose: inputs count at the tokens of an expert's own modality, where theirs count
everywhere (``gram.tokens=all``); a factor of 1 acts as 0.9999, since fewer tokens than channels leave ``Σ G_j``
without an inverse; in directions that no token takes, the experts then count by the energy of their channels and not by
rounding errors. A channel that is silent under every expert is averaged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from esmerge.adapters.lora import LoraFactors
from esmerge.calibration.regression import through
from esmerge.calibration.statistics.gram import GramSettings
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.core.validation import shares
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.ops.low_rank import common_dtype, stack
from esmerge.merging.ops.settings import DeltaSettings
from esmerge.merging.ops.space import low_rank_state


@dataclass(frozen=True)
class RegMeanSettings(DeltaSettings):
    """Settings of RegMean.

    Attributes:
        off_diagonal: factor on the off-diagonal entries of the Gram matrices, from 0 (channel by channel) to 1.
        gram: how the Gram matrices are measured.
    """

    off_diagonal: float = 0.9
    gram: GramSettings = field(default_factory=GramSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        shares(self, "method", "off_diagonal")

    def statistics_settings(self) -> Mapping[str, object]:
        return {"gram": self.gram}


@MERGES.register(
    "regmean",
    RegMeanSettings,
    MergeInfo(
        title="RegMean",
        source="arXiv 2212.09849",
        kind=MethodKind.MERGE,
        spaces=("delta",),
        needs=("gram",),
        convex=True,
        ours=("gram.tokens",),
    ),
)
def regmean(inputs: MergeInput, settings: RegMeanSettings) -> Merged:
    """``Σ ΔW_i G_i (Σ_j G_j)⁻¹``: every expert keeps its B, and its A is seen through its own inputs."""
    return merge_through(inputs, "gram", settings.off_diagonal, settings)


def merge_through(inputs: MergeInput, measure: str, off_diagonal: float, settings: DeltaSettings) -> Merged:
    """The least squares under the Gram matrices that ``measure`` left: expert -> module -> (in, in)."""
    grams = inputs.statistics[measure]
    dtype = torch.promote_types(common_dtype(inputs.experts), torch.float32)

    def factors(module: str) -> LoraFactors:
        parts = [state.modules[module] for state in inputs.experts.values()]
        module_grams = [grams[name][module] for name in inputs.experts]
        projected = through([part.a for part in parts], module_grams, off_diagonal)
        return stack(
            [(settings.scale, LoraFactors(a, p.b, p.scale)) for a, p in zip(projected, parts, strict=True)], dtype
        )

    return Merged(low_rank_state(inputs.experts, factors, settings.rank))
