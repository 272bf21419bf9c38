"""What a segment of work costs: its wall time, and the memory that it needs beyond what was held before."""

from __future__ import annotations

import ctypes
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
PEAK, NOW = "VmHWM:", "VmRSS:"
MIB = 1024
FILE = "cost.json"


@dataclass
class Cost:
    """Seconds, and MiB of memory at the peak; None where the system does not tell."""

    seconds: float = 0.0
    memory: float | None = None

    @staticmethod
    def total(costs: Sequence[Cost]) -> Cost:
        """Of work done one after the other: seconds add up, the largest peak counts."""
        peaks = [cost.memory for cost in costs if cost.memory is not None]
        return Cost(round(sum(cost.seconds for cost in costs), 3), max(peaks) if peaks else None)


@contextmanager
def cost(device: str = "cpu") -> Iterator[Cost]:
    """Measure a block; the numbers are there when it has ended.

    On Linux the peak is the kernel's own, reset at the start, when freed memory has gone back to the system: a block
    that used it again would seem to need none. On a GPU it is the allocator's, and the clock is read when the work that
    was handed to the GPU is done, so that a block pays for its own kernels and no others.
    """
    measured, on_gpu = Cost(), torch.device(device).type == "cuda"
    before = _begin(on_gpu)
    clock = time.perf_counter()
    try:
        yield measured
    finally:
        if on_gpu:
            torch.cuda.synchronize()
        measured.seconds = round(time.perf_counter() - clock, 3)
        after = _peak(on_gpu)
        measured.memory = None if before is None or after is None else round(max(0.0, after - before), 1)


def _begin(on_gpu: bool) -> float | None:
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / MIB**2
    _give_back()
    try:
        RESET.write_text("5", encoding="ascii")  # the kernel's code for: set the peak to what is held now
    except OSError:
        return None
    return _read(NOW)


def _give_back() -> None:
    """Let the C library return what it holds of freed memory; not every one can."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _peak(on_gpu: bool) -> float | None:
    return torch.cuda.max_memory_allocated() / MIB**2 if on_gpu else _read(PEAK)


def _read(name: str) -> float | None:
    try:
        lines = STATUS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / MIB for line in lines if line.startswith(name)), None)


def save_cost(cost: Cost, folder: Path) -> None:
    """Write a cost beside what it paid for."""
    (folder / FILE).write_text(json.dumps(asdict(cost)), encoding="utf-8")


def load_cost(folder: Path) -> Cost:
    """Read what ``save_cost`` wrote."""
    return Cost(**json.loads((folder / FILE).read_text(encoding="utf-8")))
