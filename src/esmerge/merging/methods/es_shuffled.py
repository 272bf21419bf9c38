"""Control of ES-Merging: the right coefficients in the wrong places.

Every tensor's coefficients are shuffled over its entries (layer-wise ones over the layers), with one permutation for
all experts, so that they still sum to 1 and keep their distribution. If the merge is as good as before, it is the
distribution that helps, not which parameters get which weight.
"""

from __future__ import annotations

from torch import Tensor

from esmerge.core import torch_rng
from esmerge.core.methods import MergeInfo, MethodKind
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
        first = next(iter(weights.values()))
        order = torch_rng.permutation(first.numel(), inputs.seed, "es_shuffled", key, device=first.device)
        return {name: tensor.flatten()[order].reshape(tensor.shape) for name, tensor in weights.items()}

    return merge_by(inputs, settings, rearrange(measure(inputs, settings), shuffle))
