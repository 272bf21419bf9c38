"""What is measured."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from esmerge.core.devices import moved
from esmerge.core.lazy import LazyMapping

Statistics = Mapping[str, Mapping[str, Tensor]]
"""What a measure found: expert -> tensor name -> tensor; what concerns no expert stands under ``BACKBONE``."""
BACKBONE = "(backbone)"


def on_device(statistics: Statistics, device: torch.device) -> Statistics:
    """The same, each tensor moved when it is read, so that one of them is on the device at a time."""

    def tensors(by_name: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return LazyMapping(by_name, lambda name: moved(by_name[name], device))

    return {owner: tensors(by_name) for owner, by_name in statistics.items()}
