"""Element-wise coefficients: how much each parameter matters to its expert (arXiv 2603.14405, 'Element-wise')."""

from __future__ import annotations

import torch
from torch import Tensor

from esmerge.coefficients.layer import zscore


def element_coefficients(scores: Tensor, tau: float) -> Tensor:
    """``beta[i,θ] = softmax_i(z[i,θ] / tau)``, z being the score standardised over the expert's own tensor.

    Args:
        scores: (N experts, *shape), accumulated gradient scores of one tensor.
        tau: temperature of the softmax over experts.

    Returns:
        (N, *shape), at least float32; sums to 1 over the experts at every entry.
    """
    wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
    return torch.softmax(zscore(wide, dims=tuple(range(1, wide.ndim))) / tau, dim=0)
