"""Control of ES-Merging: the right coefficients in the wrong places.

Every tensor's coefficients are shuffled over its entries (layer-wise ones over the layers), with one permutation for
all experts, so that they still sum to 1 and keep their distribution. If the merge is as good as before, it is the
distribution that helps, not which parameters get which weight.
"""

from __future__ import annotations

import torch
from torch import Tensor

from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.core.torch_rng import torch_generator
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.ops.es_family import EVERY, SOURCE, measure, merge_by, rearrange
from esmerge.merging.ops.settings import ConvexSettings


@MERGES.register(
    "es_shuffled",
    ConvexSettings,
    MergeInfo(
        title="ES, coefficients shuffled",
        source=f"control of {SOURCE}",
        kind=MethodKind.CONTROL,
        spaces=("factors", "delta"),
        granularities=EVERY,
        convex=True,
    ),
)
def es_shuffled(inputs: MergeInput, settings: ConvexSettings) -> Merged:
    """ES-Merging with each tensor's coefficients shuffled over its entries."""

    def shuffle(key: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        entries = next(iter(weights.values())).numel()
        order = torch.randperm(entries, generator=torch_generator(inputs.seed, "es_shuffled", key))
        return {name: tensor.flatten()[order].reshape(tensor.shape) for name, tensor in weights.items()}

    return merge_by(inputs, settings, rearrange(measure(inputs, settings), shuffle))
