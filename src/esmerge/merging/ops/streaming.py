"""Exact order statistics of values that are too many to hold at once, read batch by batch.

Selection by histogram: numbers in float32 sort like their bit patterns, so one pass that counts the upper 16 bits tells
in which bin the wanted value lies, and a second pass that counts the lower 16 bits within that bin tells which it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce

import torch
from torch import Tensor

HALF = 16  # bits counted in one pass
BINS = 1 << HALF
SIGN_FREE = 0x7FFFFFFF  # every bit but the sign

Batches = Callable[[], Iterable[Tensor]]
"""Starts a pass over the values: tensors (rows, *shape), whose shapes may differ but for the number of rows."""


def order_statistics(read: Batches, positions: Sequence[int]) -> Tensor:
    """The values that stand at the given places when all values of a row are sorted in ascending order.

    Args:
        read: called twice, once for each pass; the values are compared in float32.
        positions: counted from 0, each below the number of values in a row.

    Returns:
        (rows, places), float32.
    """
    upper = _total(torch.stack([_count(_upper(_keys(row))) for row in batch]) for batch in read())
    sorted_positions = torch.tensor(positions, device=upper.device)
    bins, before = _locate(upper, sorted_positions.expand(len(upper), -1))
    lower = _total(torch.stack([_count_within(_keys(row), at) for row, at in zip(batch, bins, strict=True)])
                   for batch in read())  # fmt: skip
    lower_bins, _ = _locate(lower, (sorted_positions - before)[..., None])
    return _value(bins, lower_bins[..., 0])


def _keys(row: Tensor) -> Tensor:
    """Whole numbers, (values,), that sort as the values do: bit patterns of negative floats run backwards."""
    bits = row.float().flatten().contiguous().view(torch.int32)
    return bits ^ ((bits >> 31) & SIGN_FREE)


def _value(upper: Tensor, lower: Tensor) -> Tensor:
    """The floats whose keys have these halves."""
    keys = ((upper - BINS // 2) * BINS + lower).to(torch.int32)
    return (keys ^ ((keys >> 31) & SIGN_FREE)).view(torch.float32)


def _upper(keys: Tensor) -> Tensor:
    return (keys >> HALF) + BINS // 2


def _count(halves: Tensor) -> Tensor:
    return torch.bincount(halves, minlength=BINS)


def _count_within(keys: Tensor, bins: Tensor) -> Tensor:
    """Counts of the lower halves of a row's keys in each wanted bin: (n,), (places,) -> (places, BINS)."""
    upper = _upper(keys)
    return torch.stack([_count(keys[upper == bin_index] & (BINS - 1)) for bin_index in bins])


def _total(counts: Iterable[Tensor]) -> Tensor:
    return reduce(torch.add, counts)


def _locate(counts: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """The bin that holds each place, and how many values lie in the bins before it.

    Args:
        counts: (..., BINS).
        positions: (..., k), counted from 0.

    Returns:
        two tensors (..., k).
    """
    upto = counts.cumsum(-1)
    bins = torch.searchsorted(upto, positions.contiguous(), right=True)
    return bins, (upto - counts).gather(-1, bins)
