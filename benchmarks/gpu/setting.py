"""What a part is told: sizes, the device and how long it may take."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Setting:
    """How the check runs.

    Attributes:
        small: tiny shapes in place of the real ones.
        device: ``cuda`` or ``cpu``.
        seconds: after which this part is stopped.
        work: folder for what the check leaves while it runs, shared by its parts.
    """

    small: bool
    device: str
    seconds: float
    work: Path
    _start: float = field(default_factory=time.monotonic)

    @property
    def on_gpu(self) -> bool:
        return self.device.startswith("cuda")

    def left(self) -> float:
        """Seconds until the part is stopped."""
        return self.seconds - (time.monotonic() - self._start)


def synchronize(device: str) -> None:
    """Wait until the device has done what it was handed."""
    if device.startswith("cuda"):
        import torch  # late: a part decides what is loaded

        torch.cuda.synchronize()


def free(device: str) -> None:
    """Let the allocator of a GPU give back what nothing uses."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize()
        torch.cuda.empty_cache()
