"""What a part is told: sizes, the device and how long it may take."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers
from benchmarks.gpu.report import Report


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
        return torch.device(self.device).type == "cuda"

    def left(self) -> float:
        """Seconds until the part is stopped."""
        return self.seconds - (time.monotonic() - self._start)


def synchronize(device: str) -> None:
    """Wait until the device has done what it was handed."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def free(device: str) -> None:
    """Let the allocator of a GPU give back what nothing uses."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


def tell_facts(setting: Setting, report: Report) -> None:
    """What is measured on."""
    facts: dict[str, object] = {
        "device": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }
    if setting.on_gpu:
        properties = torch.cuda.get_device_properties(0)
        facts["device"] = properties.name
        facts["memory"] = f"{properties.total_memory / 2**30:.1f} GiB"
        facts["cuda"] = torch.version.cuda
    report.facts(**facts)
