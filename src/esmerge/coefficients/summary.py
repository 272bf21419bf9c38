"""What a reader wants of merging weights: each expert's share of every layer, and how often each weight occurs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esmerge.core.names import layer_of

BINS = 40
Array = NDArray[np.floating[Any]]
LAYER = ".layer"  # ends the name of an expert's layer-wise coefficients


@dataclass(frozen=True)
class CoefficientSummary:
    """Merging weights in brief.

    Attributes:
        experts: their names.
        layer_shares: (experts, layers): the layer-wise coefficient itself or, where a merge weighs single entries, the
            mean over a layer's entries.
        counts: expert -> how many of its weights lie in each bin, (bins,); of single entries where there are any.
        edges: of the bins, (bins + 1,), from 0 to 1.
    """

    experts: tuple[str, ...]
    layer_shares: NDArray[np.float64]
    counts: Mapping[str, NDArray[np.int64]]
    edges: NDArray[np.float64]


def summarise(tensors: Mapping[str, Array], bins: int = BINS) -> CoefficientSummary:
    """One pass over merging weights, one tensor at a time. No torch is needed, so that reports are quick.

    Args:
        tensors: named as ``Coefficients.tensors`` names them; they may be read on demand.
        bins: of the histograms.
    """
    experts = tuple(name.removesuffix(LAYER) for name in tensors if name.endswith(LAYER))
    edges = np.linspace(0.0, 1.0, bins + 1)
    shares, counts = [], {}
    for expert in experts:
        coarse = tensors[f"{expert}{LAYER}"].astype(np.float64)
        entries = [name for name in tensors if name.startswith(f"{expert}.") and name != f"{expert}{LAYER}"]
        share, count = _entries(coarse, ((name.removeprefix(f"{expert}."), tensors[name]) for name in entries), edges)
        shares.append(share)
        counts[expert] = count if entries else np.histogram(coarse.clip(0.0, 1.0), edges)[0]
    return CoefficientSummary(experts, np.array(shares), counts, edges)


def _entries(
    coarse: NDArray[np.float64], tensors: Iterable[tuple[str, Array]], edges: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Mean weight of each layer's entries, where it has any, and the histogram of all entries."""
    total, entries = np.zeros(len(coarse)), np.zeros(len(coarse))
    counts = np.zeros(len(edges) - 1, dtype=np.int64)
    for name, tensor in tensors:
        layer = layer_of(name)
        total[layer] += float(tensor.sum(dtype=np.float64))
        entries[layer] += tensor.size
        counts += np.histogram(tensor.clip(0.0, 1.0), edges)[0]
    return np.divide(total, entries, out=coarse.copy(), where=entries > 0), counts
