"""Layer-wise coefficients: how far each expert moves each layer's embeddings (arXiv 2603.14405, 'Layer-wise').

The chain is distances -> increment along depth -> z-score over layers -> own modality plus weighted others -> softmax
over experts. The distances themselves are in ``distances`` and ``wasserstein``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def increments(distances: Tensor) -> Tensor:
    """What each layer adds, (..., L): ``D[l] − D[l−1]``, and ``D[0]`` for the first layer."""
    return torch.diff(distances, dim=-1, prepend=torch.zeros_like(distances[..., :1]))


def zscore(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Subtract the mean and divide by the population standard deviation over ``dims``; zeros where all are equal."""
    # A z-score does not change with the unit; dividing by the largest value keeps squares of tiny scores representable.
    largest = values.abs().amax(dim=dims, keepdim=True)
    scaled = values / torch.where(largest == 0, torch.ones_like(largest), largest)
    centred = scaled - scaled.mean(dim=dims, keepdim=True)
    std = centred.square().mean(dim=dims, keepdim=True).sqrt()  # half the time of torch.std, as exact
    equal = scaled.amax(dim=dims, keepdim=True) == scaled.amin(dim=dims, keepdim=True)
    safe = torch.where(equal | (std == 0), torch.ones_like(std), std)
    return torch.where(equal, torch.zeros_like(centred), centred / safe)


def layer_coefficients(distances: Tensor, own: Sequence[int], cross_weight: float, temperature: float) -> Tensor:
    """Layer-wise coefficients ``alpha``, (N, L); they sum to 1 over the experts.

    ``alpha[i,l] = softmax_i(g[i,l] / T)`` with ``g[i,l] = z[i,own,l] + a · Σ_{t≠own} z[i,t,l]``.

    Args:
        distances: (N experts, M modalities, L layers).
        own: for each expert, the index of its own modality.
        cross_weight: a.
        temperature: T.
    """
    z = zscore(increments(distances.double()), dims=(-1,))
    mine = z[torch.arange(len(own)), torch.as_tensor(own)]
    gain = mine + cross_weight * (z.sum(dim=1) - mine)
    return torch.softmax(gain / temperature, dim=0)
