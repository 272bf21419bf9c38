"""Merging weights in brief."""

from __future__ import annotations

import numpy as np
import torch

from esmerge.coefficients.summary import summarise
from esmerge.core.arrays import as_arrays

ENTRIES = {
    "a.layer": torch.tensor([0.5, 0.5, 0.5]),
    "b.layer": torch.tensor([0.1, 1.0, 0.4]),
    "a.model.layers.0.q.lora_A.weight": torch.tensor([[0.1, 0.2]]),
    "a.model.layers.0.q.lora_B.weight": torch.tensor([0.9]),
    "a.model.layers.1.q.lora_A.weight": torch.tensor([1.0], dtype=torch.bfloat16),
}


def test_histograms_count_entries_where_there_are_some() -> None:
    summary = summarise(as_arrays(ENTRIES), bins=2)
    assert summary.experts == ("a", "b")
    assert summary.counts["a"].tolist() == [2, 2] and summary.counts["b"].tolist() == [2, 1]
    np.testing.assert_allclose(summary.edges, [0, 0.5, 1])


def test_shares_are_means_over_a_layers_entries_or_the_layers_own_coefficient() -> None:
    summary = summarise(as_arrays(ENTRIES))
    np.testing.assert_allclose(summary.layer_shares, [[1.2 / 3, 1.0, 0.5], [0.1, 1.0, 0.4]], rtol=1e-6)
