"""From main memory to the device that computes, and what a device says when its memory is full."""

from __future__ import annotations

import gc

import torch
from torch import Tensor

CPU = torch.device("cpu")


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """The same tensor on a device; the host does not wait for a copy to a GPU, which goes through pinned memory."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


class Fetching:
    """Tensors on their way to main memory, while the device goes on computing."""

    def __init__(self, *tensors: Tensor) -> None:
        """Begin to copy tensors of one device."""
        self._copies = [tensor.to("cpu", non_blocking=True) for tensor in tensors]  # torch pins what it copies to
        self._event = torch.cuda.Event() if tensors[0].device.type == "cuda" else None
        if self._event is not None:
            self._event.record()

    def wait(self) -> list[Tensor]:
        """The tensors in main memory, when they are there."""
        if self._event is not None:
            self._event.synchronize()
        return self._copies


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch says that a tensor found no room, on a GPU or in main memory."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )


def release_memory() -> None:
    """Give back what a piece of work that failed has left behind; call it outside of the ``except`` block."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
