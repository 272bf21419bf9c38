"""Order statistics over batches against sorting everything at once."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esmerge.merging.ops.streaming import order_statistics


def test_by_hand() -> None:
    # one row in two batches: sorted -3, -0.5, 0, 2, 7; another: 1, 1, 1, 1, 9
    batches = [torch.tensor([[2.0, -3, 7], [1, 1, 9]]), torch.tensor([[0.0, -0.5], [1, 1]])]
    assert order_statistics(lambda: iter(batches), (0, 1, 2, 4)).tolist() == [[-3, -0.5, 0, 7], [1, 1, 1, 9]]


@settings(max_examples=10, deadline=None)
@given(
    rows=st.integers(1, 3),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    exponent=st.integers(-12, 12),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    data=st.data(),
)
def test_equals_sorting(rows: int, sizes: list[int], exponent: int, dtype: torch.dtype, data: st.DataObject) -> None:
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 999)))
    batches = [(torch.randn(rows, size, 2, generator=generator) * 10.0**exponent).to(dtype) for size in sizes]
    places = data.draw(st.lists(st.integers(0, 2 * sum(sizes) - 1), min_size=1, max_size=3))
    sorted_values = torch.cat([batch.flatten(1) for batch in batches], dim=1).float().sort(dim=1).values
    assert torch.equal(order_statistics(lambda: iter(batches), places), sorted_values[:, places])
