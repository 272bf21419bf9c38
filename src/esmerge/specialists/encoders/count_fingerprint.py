"""Molecules as logarithms of Morgan substructure counts, standardised, through one GELU layer.

A count tells a chain from a ring system that repeats the same substructure; its logarithm keeps large molecules from
drowning the small ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from esmerge.data.molecules import canonical_smiles, substructure_counts
from esmerge.specialists.encoders.fingerprint import FingerprintSettings
from esmerge.specialists.soft_tokens.api import ENCODERS, FeatureEncoder
from esmerge.specialists.soft_tokens.trunks import StandardisedLayer


@ENCODERS.register("count_fingerprint", FingerprintSettings)
def count_fingerprint(settings: FingerprintSettings) -> FeatureEncoder:
    """Canonical SMILES -> (bits,) ``log(1 + count)`` -> standardised -> one GELU layer."""

    def prepare(values: Sequence[str]) -> Tensor:
        rows = [substructure_counts(canonical_smiles(value), settings.radius, settings.bits) for value in values]
        return torch.from_numpy(np.log1p(np.stack(rows)))

    return FeatureEncoder(canonical_smiles, prepare, lambda width: StandardisedLayer(settings.bits, width))
