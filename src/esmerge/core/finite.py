"""A quick look for NaN and infinity, since every expert, merge and weight is looked through."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor


def all_finite(tensor: Tensor) -> bool:
    """Whether there is neither NaN nor infinity, in one pass without a mask: both reach the smallest or the largest."""
    if tensor.numel() == 0:
        return True
    least, most = tensor.aminmax()  # a NaN anywhere makes both NaN
    if tensor.device.type != "cpu":  # the host waits for the device once, not twice
        return bool(torch.stack([least, most]).isfinite().all())
    return math.isfinite(least) and math.isfinite(most)


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that hold NaN or infinity; the host waits once for each device that they are on."""
    extremes = {name: torch.stack(tensor.aminmax()).isfinite().all() for name, tensor in tensors.items()}
    devices = dict.fromkeys(flag.device for flag in extremes.values())
    finite: dict[str, bool] = {}
    for device in devices:
        flags = {name: flag for name, flag in extremes.items() if flag.device == device}
        finite.update(zip(flags, torch.stack(list(flags.values())).tolist(), strict=True))
    return [name for name in tensors if not finite[name]]


def number_format(dtype: torch.dtype) -> str:
    """A number format as configs name it, e.g. ``float16``."""
    return str(dtype).removeprefix("torch.")
