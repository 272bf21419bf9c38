"""What a segment of work cannot be quicker than: its matrix products at the speed that a large one has here."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

SIZE, TIMES = 2048, 5  # of the products that the speed is taken from


def counted(work: Callable[[], object]) -> float:
    """Floating-point operations of a segment of work's matrix products and attention, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def per_second(device: str = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """Floating-point operations per second of a large matrix product, with the threads that torch has now."""
    matrix = torch.randn(SIZE, SIZE, device=device, dtype=dtype)

    def spent() -> float:
        if matrix.is_cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        matrix @ matrix
        if matrix.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start

    spent()  # the first one may be slower
    return 2 * SIZE**3 / statistics.median(spent() for _ in range(TIMES))
