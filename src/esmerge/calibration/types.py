"""What is measured."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

Statistics = Mapping[str, Mapping[str, Tensor]]
"""What a measure found: expert -> tensor name -> tensor; what concerns no expert stands under ``BACKBONE``."""
BACKBONE = "(backbone)"
