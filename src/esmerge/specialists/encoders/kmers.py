"""Proteins as the composition of the whole chain, of any length, through one GELU layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esmerge.core.validation import at_least
from esmerge.data.sequences import STANDARD, check_sequence
from esmerge.specialists.soft_tokens.api import ENCODERS, FeatureEncoder
from esmerge.specialists.soft_tokens.trunks import StandardisedLayer

LETTERS = len(STANDARD) + 1  # the last stands for every residue beyond the standard twenty
_CODES = np.full(256, LETTERS - 1, dtype=np.int64)
_CODES[np.frombuffer(STANDARD.encode(), dtype=np.uint8)] = np.arange(len(STANDARD))


@dataclass(frozen=True)
class KmerSettings:
    """Blocks of a chain's composition.

    Attributes:
        triples: buckets that hashed triples share.
        ends: residues at either end that are counted once more: signal peptides and tags sit there.
    """

    triples: int = 512
    ends: int = 30

    def __post_init__(self) -> None:
        at_least(self, "encoder", 1, "triples", "ends")


def kmers(sequence: str, settings: KmerSettings) -> NDArray[np.float32]:
    """Composition of a chain, as square roots of frequencies, so that each block has unit length.

    Blocks: residues, pairs, hashed triples, the first and the last residues; then the logarithm of the length.

    Returns:
        (LETTERS**2 + 3 * LETTERS + triples + 1,)
    """
    codes, buckets = _CODES[np.frombuffer(sequence.encode(), dtype=np.uint8)], settings.triples
    pairs = codes[:-1] * LETTERS + codes[1:]
    triples = (pairs[:-1] * LETTERS + codes[2:]) * 2654435761 % 2**32 * buckets >> 32  # Fibonacci hashing
    first, last = codes[: settings.ends], codes[-settings.ends :]
    blocks = [(codes, LETTERS), (pairs, LETTERS**2), (triples, buckets), (first, LETTERS), (last, LETTERS)]
    counts = [np.bincount(block, minlength=size) / max(1, len(block)) for block, size in blocks]
    return np.concatenate([*map(np.sqrt, counts), [np.log(len(sequence)) / 10]]).astype(np.float32)


@ENCODERS.register("kmers", KmerSettings)
def kmer_encoder(settings: KmerSettings) -> FeatureEncoder:
    """Sequence -> composition -> standardised -> one GELU layer."""
    size = LETTERS**2 + 3 * LETTERS + settings.triples + 1

    def prepare(values: Sequence[str]) -> Tensor:
        return torch.from_numpy(np.stack([kmers(check_sequence(value), settings) for value in values]))

    return FeatureEncoder(check_sequence, prepare, lambda width: StandardisedLayer(size, width))
