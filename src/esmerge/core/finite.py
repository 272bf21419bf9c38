"""A quick look for NaN and infinity, since every expert, merge and weight is looked through."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def all_finite(tensor: Tensor) -> bool:
    """Whether there is neither NaN nor infinity, in one pass without a mask: both reach the smallest or the largest."""
    if tensor.numel() == 0:
        return True
    least, most = tensor.aminmax()  # a NaN anywhere makes both NaN
    return math.isfinite(least) and math.isfinite(most)


def number_format(dtype: torch.dtype) -> str:
    """A number format as configs name it, e.g. ``float16``."""
    return str(dtype).removeprefix("torch.")
