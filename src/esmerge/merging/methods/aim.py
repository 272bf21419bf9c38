"""AIM, activation-informed merging: spare the backbone's busy input channels (arXiv 2502.02421).

It goes on top of another merge. Column c of a layer's merged update is multiplied by ``1 - (1 - ω) · I_c``, where I_c
is the backbone's mean input magnitude in channel c over the largest of the layer's channels: the busiest channel keeps
the share ω of its update, a silent one keeps all.

Differences from the authors' code, on purpose: they read segments of the Pile, and the probe's prompts are read here;
they also relax norms and the output layer, which adapters leave alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from esmerge.adapters.dense import Update
from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.calibration.statistics.channels import ChannelsSettings
from esmerge.calibration.types import BACKBONE
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.core.validation import check_choice, shares
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.ops.low_rank import wide
from esmerge.merging.ops.settings import DeltaSettings
from esmerge.merging.ops.space import dense_state, low_rank_state

MERGED = ("average", "task_arithmetic", "ties")


@dataclass(frozen=True)
class AimSettings(DeltaSettings):
    """Settings of AIM.

    Attributes:
        merge: the merge that is relaxed, at its own published settings.
        omega: ω, share of the update that the busiest channel keeps; the authors' value, of a range of 0.2 to 0.6.
        scale: multiplies the relaxed merge, on top of the merge's own λ.
        channels: how the backbone's input magnitudes are measured.
    """

    merge: str = "task_arithmetic"
    omega: float = 0.4
    channels: ChannelsSettings = field(default_factory=ChannelsSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("merge", self.merge, MERGED)
        shares(self, "method", "omega")

    def statistics_settings(self) -> Mapping[str, object]:
        return {"channels": self.channels}


@MERGES.register(
    "aim",
    AimSettings,
    MergeInfo(
        title="AIM",
        source="arXiv 2502.02421",
        kind=MethodKind.MERGE,
        spaces=("delta",),
        needs=("channels",),
    ),
)
def aim(inputs: MergeInput, settings: AimSettings) -> Merged:
    """Another merge with every input channel's update relaxed."""
    inner = MERGES.get(settings.merge)
    merged: Update = inner.function(inputs, inner.settings()).state
    magnitudes = inputs.statistics["channels"][BACKBONE]
    relaxations = {
        module: settings.scale * relaxation(magnitudes[module], settings.omega)
        for module in next(iter(inputs.experts.values())).modules
    }
    if isinstance(merged, LoraState):
        modules = merged.modules
        return Merged(low_rank_state(inputs.experts, lambda m: relaxed(modules[m], relaxations[m]), settings.rank))
    return Merged(dense_state(inputs.experts, lambda m: wide(merged.modules[m]) * relaxations[m], settings.rank))


def relaxation(magnitudes: Tensor, omega: float) -> Tensor:
    """``1 - (1 - ω) · I`` for each input channel, (in,), with I the magnitudes over their largest."""
    largest = magnitudes.max()
    importance = magnitudes / torch.where(largest > 0, largest, 1.0)
    return 1 - (1 - omega) * importance


def relaxed(factors: LoraFactors, factor: Tensor) -> LoraFactors:
    """Factors whose update's columns are multiplied by ``factor``, (in,): A's columns are."""
    return LoraFactors(wide(factors.a) * factor, factors.b, factors.scale)
