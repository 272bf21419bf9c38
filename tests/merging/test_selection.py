"""Trim and drop by hand."""

from __future__ import annotations

import torch

from src.merging.selection import dropped, threshold, trimmed


def test_the_trim_counts_over_all_tensors() -> None:
    # of 6 entries the largest 3 survive: both of the second tensor and one of the first
    tensors = [torch.tensor([1.0, -2, 3, 0.5]), torch.tensor([[10.0], [-20]])]
    assert threshold(tensors, 0.5) == 3
    assert trimmed(tensors[0], 3).tolist() == [0, 0, 3, 0]
    assert trimmed(tensors[1], 3).tolist() == [[10], [-20]]
    assert threshold(tensors, 1.0) == 0.5
    assert threshold(tensors, 0.01) == 20  # at least one entry survives


def test_dropped_entries_are_made_up_for_by_the_rest() -> None:
    values = torch.full((100, 100), 2.0)
    found = dropped(values, 0.75, torch.Generator().manual_seed(0))
    assert set(found.unique().tolist()) == {0.0, 8.0}
    assert abs(float((found == 0).float().mean()) - 0.75) < 0.02
    assert torch.equal(found, dropped(values, 0.75, torch.Generator().manual_seed(0)))
    assert torch.equal(dropped(values, 0.0, torch.Generator()), values)
