"""Joint coefficients: layer-wise and element-wise ones multiplied and normalised (arXiv 2603.14405, 'Joint')."""

from __future__ import annotations

import torch
from torch import Tensor


def joint_coefficients(alpha: Tensor, beta: Tensor) -> Tensor:
    """``lambda[i,θ] = alpha[i] · beta[i,θ] / Σ_j alpha[j] · beta[j,θ]``.

    Computed from logarithms, so that small products do not vanish before they are compared. Where a layer gives all its
    weight to experts of element-wise weight zero, zeros count as the smallest positive number.

    Args:
        alpha: (N,), the layer's coefficients.
        beta: (N, *shape), the element-wise coefficients of one tensor of that layer.

    Returns:
        (N, *shape), in the precision of ``beta``; sums to 1 over the experts at every entry.
    """
    column = alpha.to(beta).reshape(-1, *[1] * (beta.ndim - 1))
    products = column.log() + beta.log()
    undecided = products.isneginf().all(dim=0)
    if undecided.any():  # rare, and as much work again
        products = torch.where(undecided, _floored_log(column) + _floored_log(beta), products)
    return torch.softmax(products, dim=0)


def _floored_log(weights: Tensor) -> Tensor:
    return weights.clamp_min(torch.finfo(weights.dtype).tiny).log()
