"""Control of ES-Merging: each tensor's coefficients are given to other experts than they were computed for.

If the merge is as good as before, it does not matter whose signal decides.
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
    "es_permuted",
    ConvexSettings,
    MergeInfo(
        title="ES, coefficients permuted over experts",
        source=f"control of {SOURCE}",
        kind=MethodKind.CONTROL,
        spaces=("factors", "delta"),
        granularities=EVERY,
        convex=True,
    ),
)
def es_permuted(inputs: MergeInput, settings: ConvexSettings) -> Merged:
    """ES-Merging with the coefficients of each tensor (or layer) shifted cyclically over the experts."""

    def permute(key: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        if key == "layer":
            rows = zip(*weights.values(), strict=True)
            shifted = [_shift(dict(zip(weights, row, strict=True)), inputs.seed, f"{i}") for i, row in enumerate(rows)]
            return {name: torch.stack([layer[name] for layer in shifted]) for name in weights}
        return _shift(weights, inputs.seed, key)

    return merge_by(inputs, settings, rearrange(measure(inputs, settings), permute))


def _shift(weights: dict[str, Tensor], seed: int, key: str) -> dict[str, Tensor]:
    """Give every expert another's weights; sorted names make the outcome independent of the experts' order."""
    names = sorted(weights)
    draw = torch_generator(seed, "es_permuted", key)
    by = int(torch.randint(1, len(names), (), generator=draw))
    return {name: weights[names[(i + by) % len(names)]] for i, name in enumerate(names)}
