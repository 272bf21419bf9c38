"""Which entries survive: TIES's trim and DARE's drop as pure functions of tensors, wherever the entries live."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def threshold(tensors: Sequence[Tensor], keep: float) -> float:
    """Magnitude of the smallest entry among the ``keep`` share of largest ones, over all tensors together."""
    magnitudes = torch.cat([tensor.abs().flatten() for tensor in tensors])
    kept = max(1, round(keep * len(magnitudes)))
    return float(magnitudes.kthvalue(len(magnitudes) - kept + 1).values)


def trimmed(values: Tensor, least: float) -> Tensor:
    """Entries below ``least`` in magnitude become zero (TIES, arXiv 2306.01708)."""
    return torch.where(values.abs() >= least, values, 0.0)


def dropped(values: Tensor, probability: float, random: torch.Generator) -> Tensor:
    """Entries are dropped at random and the rest divided by 1 - p, so the mean stays (DARE, arXiv 2311.03099)."""
    numbers = torch.rand(values.shape, generator=random, dtype=values.dtype)
    return torch.where(numbers < probability, 0.0, values / (1 - probability))
