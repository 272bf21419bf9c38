"""Tensors come back from memory and from the file as they were."""

from __future__ import annotations

import pytest
import torch

from esmerge.calibration.shelf import Shelf


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_tensors_come_back_as_they_were(dtype: torch.dtype) -> None:
    matrix = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    tensors = [matrix, matrix[:, :3].T, matrix[:0], matrix[1]]
    shelf = Shelf(limit=matrix.nbytes)
    entries = [shelf.put(tensor) for tensor in tensors]
    assert shelf.held == matrix.nbytes  # the others lie in the file
    for entry, tensor in zip(reversed(entries), reversed(tensors), strict=True):
        assert entry.read().dtype == dtype and torch.equal(entry.read(), tensor)


def test_what_is_dropped_makes_room() -> None:
    tensor = torch.ones(4)
    shelf = Shelf(limit=tensor.nbytes)
    first = shelf.put(tensor)
    second = shelf.put(tensor)
    assert first.tensor is not None and second.tensor is None
    first.drop()
    assert shelf.held == 0 and shelf.put(tensor).tensor is not None
    assert torch.equal(second.read(), tensor)
