"""TSV-Merge against a hand-worked pair of experts and the dense formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.merging.matrices import ROOT, assert_same, deltas_of, expert_specs, experts_of, random_experts, thin_svd

from esmerge.core.errors import ConfigError
from esmerge.merging.api import MergeInput
from esmerge.merging.methods.tsv import TsvSettings, leading, nearest_orthonormal, tsv


def test_by_hand() -> None:
    # both experts have rank 1 and singular value 1; their u are 45 degrees apart, their v are orthogonal. The nearest
    # orthonormal pair turns each u by 22.5 degrees away from the other and leaves the v
    half = math.sqrt(0.5)
    experts = experts_of([[1, 0], [0, 0]], [[0, half], [0, half]])
    turn = math.radians(22.5)
    expected = [[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]]
    merged = tsv(MergeInput(experts, "delta"), TsvSettings()).state
    assert_same(merged, {f"{ROOT}.0.q": np.array(expected)})
    tripled = tsv(MergeInput(experts, "delta"), TsvSettings(scale=3.0)).state
    assert_same(tripled, {f"{ROOT}.0.q": 3 * np.array(expected)})


def test_experts_in_orthogonal_directions_are_added() -> None:
    # one of N = 2 triplets of each stays; nothing overlaps, so decorrelation changes nothing
    experts = experts_of([[3, 0, 0], [0, 1, 0], [0, 0, 0]], [[0, 0, 0], [0, 0.5, 0], [0, 0, 2]])
    merged = tsv(MergeInput(experts, "delta"), TsvSettings()).state
    assert_same(merged, {f"{ROOT}.0.q": np.diag([3.0, 0, 2])})


def whitened(columns: np.ndarray) -> np.ndarray:
    """``X (XᵀX)^(-1/2)`` by eigendecomposition, with the pseudo-inverse where columns depend on each other."""
    values, vectors = np.linalg.eigh(columns.T @ columns)
    nonzero = values > 1e-10 * values.max()
    return columns @ (vectors[:, nonzero] / np.sqrt(values[nonzero])) @ vectors[:, nonzero].T


@settings(max_examples=40, deadline=None)
@given(spec=expert_specs, keep=st.sampled_from([None, 0.5, 0.75, 1.0]))
def test_agrees_with_the_dense_formula(spec: dict, keep: float | None) -> None:
    experts = random_experts(**spec)
    expected = {}
    for module, deltas in deltas_of(experts).items():
        lefts, values, rights = [], [], []
        for delta in deltas:
            u, s, vt = thin_svd(delta)
            count = -(-len(s) // len(deltas)) if keep is None else math.ceil(keep * len(s))
            lefts, values, rights = [*lefts, u[:, :count]], [*values, s[:count]], [*rights, vt[:count].T]
        left, right = whitened(np.concatenate(lefts, axis=1)), whitened(np.concatenate(rights, axis=1))
        expected[module] = left @ np.diag(np.concatenate(values)) @ right.T
    assert_same(tsv(MergeInput(experts, "delta"), TsvSettings(keep=keep)).state, expected)


def test_a_share_of_each_experts_own_rank_is_kept_rounded_up() -> None:
    values = torch.tensor([[4.0, 3, 2, 1], [4, 3, 2, 0], [4, 0, 0, 0], [0, 0, 0, 0]])
    assert leading(values, 1 / 3).sum(dim=1).tolist() == [2, 1, 1, 0]
    assert leading(values, 1.0).sum(dim=1).tolist() == [4, 3, 1, 0]


@pytest.mark.parametrize("count", range(2, 60))
def test_one_nth_of_n_triplets_is_one(count: int) -> None:
    assert leading(torch.ones(1, count), 1 / count).sum() == 1
    assert leading(torch.ones(1, 3 * count), 1 / count).sum() == 3


def test_a_whole_number_of_triplets_is_not_rounded_up() -> None:
    assert 0.55 * 100 > 55
    assert leading(torch.ones(1, 100), 0.55).sum() == 55


def test_nearest_orthonormal() -> None:
    columns = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    polar = nearest_orthonormal(columns)
    torch.testing.assert_close(polar.T @ polar, torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(polar.T @ columns, (polar.T @ columns).T)  # the polar factor leaves a symmetric rest
    torch.testing.assert_close(nearest_orthonormal(polar), polar)
    wide = nearest_orthonormal(columns.T)
    torch.testing.assert_close(wide @ wide.T, torch.eye(3, dtype=torch.float64))
    padded = nearest_orthonormal(torch.cat([columns, torch.zeros(6, 2, dtype=torch.float64)], dim=1))
    torch.testing.assert_close(padded, torch.cat([polar, torch.zeros(6, 2, dtype=torch.float64)], dim=1))


@pytest.mark.parametrize("keep", [0.0, 1.5, -0.2])
def test_keep_is_a_share(keep: float) -> None:
    with pytest.raises(ConfigError, match=f"method.keep={keep} must be greater than 0 and at most 1"):
        TsvSettings(keep=keep)
