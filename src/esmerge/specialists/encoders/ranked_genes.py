"""Cells as their ranked genes: hashed symbols, the first weighing most, standardised, through one GELU layer.

Symbols share buckets with a sign of their own, so that two that meet cancel out on average and inner products are kept:
Weinberger et al., "Feature hashing for large scale multitask learning", ICML 2009. No list of genes is needed, and a
symbol that no training cell had has its bucket too. The hash, scikit-learn's, is the same in every process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.feature_extraction import FeatureHasher
from torch import Tensor

from esmerge.core.errors import ConfigError
from esmerge.core.validation import at_least
from esmerge.data.sequences import gene_list
from esmerge.specialists.soft_tokens.api import ENCODERS, FeatureEncoder
from esmerge.specialists.soft_tokens.trunks import StandardisedLayer

WEIGHTS = ("rank", "none")


@dataclass(frozen=True)
class RankedGenesSettings:
    """How a cell's list becomes features.

    Attributes:
        buckets: number of features, which the symbols share.
        weight: ``rank``: the gene at rank r, from 0, weighs ``1 / log2(r + 2)``. ``none``: all weigh the same.
        genes: so many from the start of the list are looked at; null for all.
    """

    buckets: int = 4096
    weight: str = "rank"
    genes: int | None = None

    def __post_init__(self) -> None:
        at_least(self, "encoder", 1, "buckets", "genes")
        if self.weight not in WEIGHTS:
            raise ConfigError(f"encoder.weight={self.weight!r} must be one of {', '.join(WEIGHTS)}")


def gene_weights(count: int, weight: str) -> NDArray[np.float64]:
    """Weights of ``count`` ranked genes, (count,), the highest gene first.

    Their squares sum to 1, so that a long list weighs no more than a short one.
    """
    weights = 1 / np.log2(np.arange(count) + 2) if weight == "rank" else np.ones(count)
    return weights / np.linalg.norm(weights)


@ENCODERS.register("ranked_genes", RankedGenesSettings)
def ranked_genes(settings: RankedGenesSettings) -> FeatureEncoder:
    """Ranked gene symbols -> (buckets,) signed sums of their weights -> standardised -> one GELU layer."""
    hasher = FeatureHasher(settings.buckets, input_type="pair", dtype=np.float32)

    def check(value: str) -> str:
        return gene_list(value, settings.genes)

    def pairs(value: str) -> list[tuple[str, float]]:
        symbols = list(dict.fromkeys(check(value).split()))  # a gene that is listed twice counts where it stands first
        return list(zip(symbols, gene_weights(len(symbols), settings.weight).tolist(), strict=True))

    def prepare(values: Sequence[str]) -> Tensor:
        return torch.from_numpy(hasher.transform(map(pairs, values)).toarray())

    return FeatureEncoder(check, prepare, lambda width: StandardisedLayer(settings.buckets, width))
