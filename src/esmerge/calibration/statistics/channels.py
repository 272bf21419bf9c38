"""How strongly the bare backbone excites each input channel of the adapted layers (AIM, arXiv 2502.02421).

The authors read 256 segments of the Pile; here the probe's prompts are read, so that every merge sees the same data.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from esmerge.calibration.api import STATISTICS, CalibrationData, StatisticInfo
from esmerge.calibration.types import BACKBONE, Statistics
from esmerge.calibration.watch import batches, check_reached, prefill, watching
from esmerge.core.progress import progress
from esmerge.core.validation import at_least


@dataclass(frozen=True)
class ChannelsSettings:
    """Settings of the channels' magnitudes.

    Attributes:
        samples: prompts that are read, at most; the authors' number.
    """

    samples: int = 256

    def __post_init__(self) -> None:
        at_least(self, "method.channels", 1, "samples")


@STATISTICS.register("channels", ChannelsSettings, StatisticInfo())
def channels(material: CalibrationData, settings: ChannelsSettings) -> Statistics:
    """``BACKBONE`` -> module -> mean magnitude of its inputs over all tokens but padding, (in_features,)."""
    specialists, prompts = material.specialists, material.prompts[: settings.samples]
    modules = list(next(iter(specialists.adapters.values())).modules)
    sums, count = dict[str, Tensor](), 0
    with progress("channels", len(prompts)) as bar:
        for batch in batches(specialists, prompts, material.batch_size):
            tokens = batch.mask.bool()

            def add(module: str, inputs: Tensor, tokens: Tensor = tokens) -> None:
                magnitude = inputs[tokens.flatten()].float().abs().sum(dim=0)
                sums[module] = sums.get(module, torch.zeros_like(magnitude)) + magnitude

            with watching(specialists.backbone.model, modules, add):
                prefill(specialists, batch)
            count += int(tokens.sum())
            bar.update(len(batch.spans))
    check_reached(sums, modules)
    return {BACKBONE: {module: (total / count).cpu() for module, total in sums.items()}}
