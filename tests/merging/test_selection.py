"""Trim and drop by hand."""

from __future__ import annotations

import torch

from esmerge.merging.ops.selection import drop_and_rescale, thresholds, trimmed


def test_the_trim_counts_over_all_tensors_and_for_each_row_apart() -> None:
    # of 6 entries the largest 3 survive: in the first row one of the first tensor, in the second all of it
    first = torch.tensor([[1.0, -2, 3, 0.5], [9, -9.5, 8, 0.1]])
    second = torch.tensor([[[10.0], [-20]], [[1], [2]]])

    def kept(share: float) -> list[float]:
        return thresholds(lambda: [first, second], 6, share).tolist()

    assert kept(0.5) == [3, 8]
    assert trimmed(first, torch.tensor([3.0, 8])).tolist() == [[0, 0, 3, 0], [9, -9.5, 8, 0]]
    assert trimmed(second, torch.tensor([3.0, 8])).tolist() == [[[10], [-20]], [[0], [0]]]
    assert kept(1.0)[0] == 0.5
    assert kept(0.01) == [20, 9.5]  # at least one entry survives


def test_dropped_entries_are_made_up_for_by_the_rest() -> None:
    values = torch.full((100, 100), 2.0)
    numbers = torch.rand(100, 100, generator=torch.Generator().manual_seed(0))
    rescaled = drop_and_rescale(values, 0.75, numbers)
    assert set(rescaled.unique().tolist()) == {0.0, 8.0}
    assert abs(float((rescaled == 0).float().mean()) - 0.75) < 0.02
    assert torch.equal(drop_and_rescale(values, 0.0, numbers), values)
