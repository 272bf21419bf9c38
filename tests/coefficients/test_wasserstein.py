"""The sliced Wasserstein distance against hand-worked numbers and POT."""

from __future__ import annotations

import math

import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esmerge.coefficients.wasserstein import projected_gaps, sliced_wasserstein, standardise, unit_directions
from esmerge.core.errors import InputError


def test_directions_are_seeded_unit_vectors() -> None:
    directions = unit_directions(7, 50, seed=3)
    assert directions.shape == (50, 7)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(50, dtype=torch.float64))
    assert torch.equal(directions, unit_directions(7, 50, seed=3))
    assert not torch.equal(directions, unit_directions(7, 50, seed=4))
    # uniform on the sphere: the mean of 20,000 directions is within 5 / sqrt(20,000 * 7) of zero in each coordinate
    assert unit_directions(7, 20_000, seed=0).mean(dim=0).abs().max() < 5 / math.sqrt(20_000 * 7)


def test_standardise_by_hand() -> None:
    # rows 0, 2, 4, 6: mean 3, population variance (9 + 1 + 1 + 9) / 4 = 5
    x, y = standardise(torch.tensor([[0.0], [2.0]]), torch.tensor([[4.0], [6.0]]))
    root = math.sqrt(5)
    torch.testing.assert_close(x, torch.tensor([[-3 / root], [-1 / root]]))
    torch.testing.assert_close(y, torch.tensor([[1 / root], [3 / root]]))


def test_constant_feature_is_only_centred() -> None:
    # 0.1 is not representable: the rounded mean of equal values may differ from them, the result must still be about 0
    x, y = standardise(torch.full((33, 1), 0.1), torch.full((33, 1), 0.1))
    assert torch.cat([x, y]).abs().max() < 1e-7


def test_sliced_wasserstein_by_hand() -> None:
    # along (1): sorted 0, 3 against 1, 5: gaps 1 and 2. Along (-1) the same gaps.
    # p = 2: sqrt((1 + 4) / 2); p = 1: (1 + 2) / 2
    x, y = torch.tensor([[3.0], [0.0]]), torch.tensor([[1.0], [5.0]])
    directions = torch.tensor([[1.0], [-1.0]])
    assert sliced_wasserstein(x, y, directions, 2.0).item() == pytest.approx(math.sqrt(2.5))
    assert sliced_wasserstein(x, y, directions, 1.0).item() == pytest.approx(1.5)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 6), st.integers(1, 300), st.sampled_from([1.0, 2.0, 3.0]), st.integers(0, 999))
def test_sliced_wasserstein_agrees_with_pot(rows: int, width: int, projections: int, power: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y = standardise(*torch.randn(2, rows, width, generator=generator, dtype=torch.float64))
    directions = unit_directions(width, projections, seed)
    expected = ot.sliced_wasserstein_distance(x.numpy(), y.numpy(), projections=directions.T.numpy(), p=power)
    assert sliced_wasserstein(x, y, directions, power).item() == pytest.approx(expected, rel=1e-9)


def test_distance_ignores_the_order_of_samples() -> None:
    torch.manual_seed(0)
    x, y, directions = torch.randn(8, 4), torch.randn(8, 4), unit_directions(4, 12, seed=0)
    moved = sliced_wasserstein(x[torch.randperm(8)], y[torch.randperm(8)], directions, 2.0)
    torch.testing.assert_close(moved, sliced_wasserstein(x, y, directions, 2.0))


def test_different_sample_counts_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(3, 2\) and \(4, 2\)"):
        sliced_wasserstein(torch.zeros(3, 2), torch.zeros(4, 2), unit_directions(2, 3, seed=0), 2.0)


def test_chunks_of_directions_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = torch.randn(2, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    directions = unit_directions(5, 16, seed=0)
    whole = projected_gaps(x, y, directions, 2.0)
    monkeypatch.setattr("esmerge.coefficients.wasserstein.PROJECTIONS_AT_ONCE", 40)
    torch.testing.assert_close(projected_gaps(x, y, directions, 2.0), whole)
