"""Control of ES-Merging: layer-wise coefficients from the norms of the updates alone.

``α[i, l] ∝ 1 / ‖ΔW_i[l]‖``, over the updates of all modules of layer l, and the coefficients of a layer sum to 1: an
expert that moved its weights far does not drown one that moved them a little. If this is as good as ES-Merging, the
probe is not needed.

The idea is NAN's (arXiv 2505.16148), which takes a merge's coefficients from the inverse of parameter norms. It is not
theirs in detail: that norms are taken layer by layer, as ES-Merging's layer-wise coefficients are, and that what is
left of the scale is ``method.scale``, is decided here, so that the two differ in nothing but where the coefficients
come from.

In a layer in which an expert learnt nothing it takes no part.
"""

from __future__ import annotations

import torch
from torch import Tensor

from esmerge.adapters.lora import LoraState, layer_count
from esmerge.coefficients.types import Coefficients
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.core.names import layer_of
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.ops.es_family import SOURCE, merge_by
from esmerge.merging.ops.low_rank import square_norm
from esmerge.merging.ops.settings import ConvexSettings


@MERGES.register(
    "inverse_norm",
    ConvexSettings,
    MergeInfo(
        title="Inverse norms",
        source=f"control of {SOURCE}; idea of arXiv 2505.16148",
        kind=MethodKind.CONTROL,
        spaces=("factors", "delta"),
        convex=True,
    ),
)
def inverse_norm(inputs: MergeInput, settings: ConvexSettings) -> Merged:
    """The experts' factors, or updates, weighed layer by layer by the inverse norm of the update."""
    alpha = inverse_shares(torch.stack([layer_norms(state) for state in inputs.experts.values()]))
    return merge_by(inputs, settings, Coefficients(dict(zip(inputs.experts, alpha, strict=True)), {}))


def inverse_shares(norms: Tensor) -> Tensor:
    """``(1 / n_i) / Σ_j (1 / n_j)`` over the experts: (N, L) -> (N, L).

    Norms of zero have a share of zero; where all are zero, all shares are equal.
    """
    inverse = torch.where(norms > 0, 1 / norms, 0.0)
    inverse = torch.where((norms > 0).any(dim=0), inverse, 1.0)
    return inverse / inverse.sum(dim=0)


def layer_norms(state: LoraState) -> Tensor:
    """Frobenius norm of each layer's update, all modules together, (L,), double and in main memory."""
    squares = torch.zeros(layer_count(state), dtype=torch.float64)
    for module, factors in state.modules.items():
        squares[layer_of(module)] += float(square_norm(factors))
    return squares.sqrt()
