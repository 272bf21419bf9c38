"""Control of ES-Merging: layer coefficients from random noise in place of measured responses.

If the merge is as good as before, what the probe measured about the layers is not used. Element-wise scores stay as
measured.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from esmerge.coefficients.types import Layered
from esmerge.core import torch_rng
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.ops.es_family import SOURCE, measure, merge_by, require_signals, with_signals
from esmerge.merging.ops.settings import ConvexSettings


@MERGES.register(
    "es_noise",
    ConvexSettings,
    MergeInfo(
        title="ES, noise for responses",
        source=f"control of {SOURCE}",
        kind=MethodKind.CONTROL,
        spaces=("factors", "delta"),
        granularities=("layer", "joint"),
        convex=True,
    ),
)
def es_noise(inputs: MergeInput, settings: ConvexSettings) -> Merged:
    """ES-Merging whose backbone and expert responses are independent standard normal numbers."""
    signals, _ = require_signals(inputs)
    noisy = with_signals(
        inputs,
        backbone=_noise(signals.backbone, inputs.seed, "backbone", inputs.device),
        responses={
            name: _noise(responses, inputs.seed, f"expert {name}", inputs.device)
            for name, responses in signals.responses.items()
        },
    )
    return merge_by(inputs, settings, measure(noisy, settings))


def _noise(responses: Mapping[str, Layered], seed: int, owner: str, device: torch.device) -> dict[str, Tensor]:
    return {
        modality: torch_rng.normal(tensor.shape, seed, "es_noise", owner, modality, device=device)
        for modality, tensor in responses.items()
    }
