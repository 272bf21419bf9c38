"""Molecules as short Morgan fingerprints through one ReLU layer: what the embedded specialists perceive with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from esmerge.data.molecules import canonical_smiles, fingerprint
from esmerge.specialists.encoders.fingerprint import FingerprintSettings
from esmerge.specialists.soft_tokens.api import ENCODERS, FeatureEncoder, Trunk


@dataclass(frozen=True)
class SmallFingerprintSettings(FingerprintSettings):
    """A Morgan fingerprint that is short enough for a handful of rings and side chains."""

    bits: int = 512


class ReluLayer(Trunk):
    """(n, bits) -> (n, width)."""

    def __init__(self, bits: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(bits, width)

    def forward(self, prepared: Tensor) -> Tensor:
        """(n, bits) -> (n, width)."""
        return functional.relu(self.linear(prepared))


@ENCODERS.register("small_fingerprint", SmallFingerprintSettings)
def small_fingerprint(settings: SmallFingerprintSettings) -> FeatureEncoder:
    """SMILES -> (bits,) zeros and ones -> one ReLU layer."""

    def prepare(values: Sequence[str]) -> Tensor:
        return torch.from_numpy(np.stack([fingerprint(value, settings.radius, settings.bits) for value in values]))

    return FeatureEncoder(canonical_smiles, prepare, lambda width: ReluLayer(settings.bits, width), batch_size=256)
