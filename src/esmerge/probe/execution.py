"""How a probe is carried out: what decides time and memory, and of the numbers their rounding alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from tqdm import tqdm

from esmerge.core.devices import is_out_of_memory, release_memory

Read = TypeVar("Read")
SMALLEST = 64  # positions of a pass; where not even so few find room, smaller passes would not help


@dataclass(frozen=True)
class Execution:
    """Block sizes of a probe.

    Attributes:
        positions: of a pass, up to which batches share one. From here on products are as quick as they get; it bounds
            memory where prompts are short.
        entries: of the gradients of all batches of a pass, up to which they are held together.
        direct: whether adapted linear maps are computed here where they can be; else PEFT computes them all.
    """

    positions: int = 1024
    entries: int = 2**18
    direct: bool = True


DEFAULT = Execution()
ON_GPU = Execution(positions=4096, entries=2**26)  # fewer and larger products: a GPU is quicker than its host


def suited(device: torch.device) -> Execution:
    """The block sizes that suit a device."""
    return DEFAULT if device.type == "cpu" else ON_GPU


def in_smaller_passes(read: Callable[[Execution], Read], execution: Execution) -> Read:
    """Read a probe; where memory is too small for its passes, read it again from the start in passes of half the size.

    Raises:
        RuntimeError: torch's own, where passes of the smallest size find no room either.
    """
    while True:
        try:
            return read(execution)
        except RuntimeError as error:
            if not is_out_of_memory(error) or execution.positions // 2 < SMALLEST:
                raise
        release_memory()
        execution = replace(execution, positions=execution.positions // 2)
        tqdm.write(f"out of memory: the probe is read again, {execution.positions} positions a pass", file=sys.stderr)
