"""Molecules as Morgan fingerprints, standardised, through one GELU layer.

Rogers and Hahn, Extended-connectivity fingerprints, J. Chem. Inf. Model. 50 (2010) 742.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from esmerge.core.validation import at_least
from esmerge.data.molecules import BITS, RADIUS, canonical_smiles, fingerprint
from esmerge.specialists.soft_tokens.api import ENCODERS, FeatureEncoder
from esmerge.specialists.soft_tokens.trunks import StandardisedLayer


@dataclass(frozen=True)
class FingerprintSettings:
    """A Morgan fingerprint.

    Attributes:
        radius: bonds around each atom.
        bits: length that substructures are folded into.
    """

    radius: int = RADIUS
    bits: int = BITS

    def __post_init__(self) -> None:
        at_least(self, "encoder", 0, "radius")
        at_least(self, "encoder", 1, "bits")


@ENCODERS.register("fingerprint", FingerprintSettings)
def fingerprint_encoder(settings: FingerprintSettings) -> FeatureEncoder:
    """Canonical SMILES -> (bits,) zeros and ones -> standardised -> one GELU layer."""

    def prepare(values: Sequence[str]) -> Tensor:
        rows = [fingerprint(canonical_smiles(value), settings.radius, settings.bits) for value in values]
        return torch.from_numpy(np.stack(rows))

    return FeatureEncoder(canonical_smiles, prepare, lambda width: StandardisedLayer(settings.bits, width))
