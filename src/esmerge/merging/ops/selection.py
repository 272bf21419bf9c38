"""Which entries survive: TIES's trim and DARE's drop as pure functions of tensors, wherever the entries live."""

from __future__ import annotations

import torch
from torch import Tensor

from esmerge.merging.ops.streaming import Batches, order_statistics


def thresholds(read: Batches, count: int, keep: float) -> Tensor:
    """Magnitude of the smallest entry among the ``keep`` share of largest ones, for each row, (rows,).

    Args:
        read: starts a pass over the entries, tensors (rows, *shape); they are not held at once.
        count: entries of a row.
        keep: share in (0, 1]; at least one entry is kept.
    """
    density_count = max(1, round(keep * count))
    return order_statistics(lambda: (batch.abs() for batch in read()), [count - density_count])[:, 0]


def trimmed(values: Tensor, least: Tensor) -> Tensor:
    """Entries (rows, *shape) below their row's ``least`` (rows,) in magnitude become zero (TIES, arXiv 2306.01708)."""
    bound = least.reshape(-1, *[1] * (values.ndim - 1))
    return torch.where(values.abs().float() >= bound, values, 0.0)


def drop_and_rescale(values: Tensor, drop: Tensor | float, numbers: Tensor) -> Tensor:
    """``m ⊙ Δ / (1 − p)`` with m = 0 where the number is below p; its expectation is Δ (DARE, arXiv 2311.03099).

    Args:
        values: updates, of any shape.
        drop: p, the probability that each entry is dropped, in [0, 1); one for all or one per entry.
        numbers: uniform random numbers in [0, 1), one per entry.
    """
    return torch.where(numbers < drop, 0.0, values / (1 - drop))
