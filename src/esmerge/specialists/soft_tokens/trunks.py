"""A trunk that several encoders share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from esmerge.specialists.soft_tokens.api import Trunk


class StandardisedLayer(Trunk):
    """One GELU layer on fixed features that are centred one by one, but scaled together.

    A rare bit must not weigh more than a common one.

    Args:
        size: number of fixed features.
        width: units.
    """

    mean: Tensor  # (size,)
    spread: Tensor  # (1,)

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("spread", torch.ones(1))
        self.linear = nn.Linear(size, width)

    def forward(self, prepared: Tensor) -> Tensor:
        """(n, size) -> (n, width)."""
        return functional.gelu(self.linear((prepared - self.mean) / self.spread))

    def fit_statistics(self, inputs: Tensor) -> None:
        """Mean of each feature and the deviation of all, from a sample, (n, size)."""
        self.mean.copy_(inputs.mean(dim=0))
        self.spread.fill_(float((inputs - self.mean).square().mean().sqrt().clamp(min=1e-6)))
