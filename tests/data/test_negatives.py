from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esmerge.data.negatives import pair_chances, unobserved


def graph(count: int, density: float, seed: int) -> np.ndarray:
    """A random symmetric graph without loops."""
    upper = np.triu(np.random.default_rng(seed).random((count, count)) < density, 1)
    return upper | upper.T


def test_chances_on_a_ring_are_equal_by_symmetry() -> None:
    # Six in a ring: each has 2 partners and 3 that it was not seen with, so a pair is drawn with chance 2 / 3.
    ring = np.zeros((6, 6), dtype=bool)
    for node in range(6):
        ring[node, (node + 1) % 6] = ring[(node + 1) % 6, node] = True
    free = ~ring & ~np.eye(6, dtype=bool)
    assert pair_chances(free, ring.sum(axis=1).astype(float)) == pytest.approx(np.where(free, 2 / 3, 0), abs=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.integers(50, 80), st.floats(0.02, 0.12), st.integers(0, 99))  # sparse: free partners suffice
def test_expected_degrees_are_the_wanted_ones(count: int, density: float, seed: int) -> None:
    adjacency = graph(count, density, seed)
    degrees = adjacency.sum(axis=1).astype(float)
    chances = pair_chances(~adjacency & ~np.eye(count, dtype=bool), degrees)
    assert ((chances >= 0) & (chances <= 1)).all() and np.allclose(chances, chances.T)
    assert not chances[adjacency].any() and not chances.diagonal().any()
    assert chances.sum(axis=1) == pytest.approx(degrees, rel=0.02, abs=0.05)


def test_drawn_pairs_are_new_ordered_distinct_and_fixed_by_the_seed() -> None:
    adjacency = graph(200, 0.1, 0)
    degrees = adjacency.sum(axis=1).astype(float)
    pairs = unobserved(adjacency, degrees, np.random.default_rng(1))
    assert (pairs[:, 0] < pairs[:, 1]).all() and len({*map(tuple, pairs)}) == len(pairs)
    assert not adjacency[pairs[:, 0], pairs[:, 1]].any()
    assert len(pairs) == pytest.approx(adjacency.sum() / 2, rel=0.1)
    assert np.corrcoef(np.bincount(pairs.ravel(), minlength=200), degrees)[0, 1] > 0.4
    assert np.array_equal(pairs, unobserved(adjacency, degrees, np.random.default_rng(1)))
    assert not np.array_equal(pairs, unobserved(adjacency, degrees, np.random.default_rng(2)))


def test_who_was_seen_with_all_others_gets_no_negative() -> None:
    star = np.zeros((5, 5), dtype=bool)
    star[0, 1:] = star[1:, 0] = True
    pairs = unobserved(star, star.sum(axis=1).astype(float), np.random.default_rng(0))
    assert 0 not in pairs
    assert len(unobserved(~np.eye(4, dtype=bool), np.full(4, 3.0), np.random.default_rng(0))) == 0
