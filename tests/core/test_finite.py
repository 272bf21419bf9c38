from __future__ import annotations

import pytest
import torch

from esmerge.core.finite import all_finite


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("count", [1, 7, 64, 1000, 100003])
def test_a_single_bad_value_is_seen_wherever_it_stands(dtype: torch.dtype, count: int) -> None:
    values = torch.randn(count, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert all_finite(values)
    for bad in (torch.nan, torch.inf, -torch.inf):
        for place in {0, count // 3, count // 2, count - 1}:
            changed = values.clone()
            changed[place] = bad
            assert not all_finite(changed) and not all_finite(changed.repeat(2).view(2, -1).T)


def test_the_largest_numbers_are_finite_and_so_is_nothing() -> None:
    largest = torch.finfo(torch.float32).max
    assert all_finite(torch.tensor([largest, -largest, largest]))
    assert all_finite(torch.zeros(0, 3))
