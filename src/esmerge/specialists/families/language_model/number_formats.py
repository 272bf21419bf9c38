"""In which number format a model trains faster on this machine: measured, since it differs by ten times either way.

Processors with bfloat16 units train twice as fast in it; on others the same is emulated, many times slower.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor
from torch.nn import functional

FORMATS = (torch.bfloat16, torch.float32)  # the first where both are alike: half the memory
SECONDS = 2.5  # for each
HIDDEN, FEED, TOKENS = 576, 1536, 512  # shapes of a small language model


def faster_format(device: str, seconds: float = SECONDS) -> str:
    """``bfloat16`` or ``float32``, whichever passes a feed-forward layer forwards and backwards faster.

    Args:
        device: where the model is to run.
        seconds: spent on each.
    """
    best = max(FORMATS, key=lambda dtype: passes_a_second(dtype, device, seconds))
    return str(best).removeprefix("torch.")


def passes_a_second(dtype: torch.dtype, device: str, seconds: float) -> float:
    """Training passes of one layer in a second, the first left out: it allocates and compiles."""
    draw = torch.Generator().manual_seed(0)
    shapes = [(HIDDEN, FEED), (FEED, HIDDEN)]
    weights = [(torch.randn(shape, generator=draw) / 24).to(device, dtype) for shape in shapes]
    inputs = torch.randn(TOKENS, HIDDEN, generator=draw).to(device, dtype).requires_grad_()
    _pass(inputs, weights)
    start, passes = time.perf_counter(), 0
    while passes == 0 or time.perf_counter() - start < seconds:
        _pass(inputs, weights)
        passes += 1
    return passes / (time.perf_counter() - start)


def _pass(inputs: Tensor, weights: list[Tensor]) -> None:
    with torch.enable_grad():
        loss = (functional.silu(inputs @ weights[0]) @ weights[1]).float().square().mean()
        (gradient,) = torch.autograd.grad(loss, inputs)
    float(gradient.sum())  # waits for a GPU
