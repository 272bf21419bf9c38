"""The common bases hold every expert's update without loss."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esmerge.adapters.lora import LoraFactors
from esmerge.merging.ops.shared_basis import shared_basis


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 999))
def test_every_update_is_its_core_in_the_common_bases(height: int, width: int, ranks: list[int], seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    parts = {
        str(i): LoraFactors(torch.randn(r, width, generator=draw), torch.randn(height, r, generator=draw), 0.5 + i)
        for i, r in enumerate(ranks)
    }
    basis = shared_basis(parts)
    assert basis.left.shape == (height, min(height, sum(ranks)))
    assert basis.right.shape == (width, min(width, sum(ranks)))
    torch.testing.assert_close(basis.left.T @ basis.left, torch.eye(basis.left.shape[1], dtype=torch.float64))
    torch.testing.assert_close(basis.right.T @ basis.right, torch.eye(basis.right.shape[1], dtype=torch.float64))
    for core, factors in zip(basis.cores, parts.values(), strict=True):
        expected = factors.scale * factors.b.double() @ factors.a.double()
        torch.testing.assert_close(basis.left @ core @ basis.right.T, expected)
        expanded = basis.expand(core)
        assert expanded.rank == min(basis.left.shape[1], basis.right.shape[1])
        torch.testing.assert_close(expanded.delta(), expected)
