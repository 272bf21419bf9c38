"""Compress-then-Merge against hand-worked matrices and higher-order orthogonal iteration on dense NumPy updates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.merging.matrices import (
    ROOT,
    assert_same,
    deltas_of,
    elected_mean,
    expert_specs,
    experts_of,
    keep_largest,
    random_experts,
    thin_svd,
)

from esmerge.core.errors import ConfigError
from esmerge.merging.api import MergeInput
from esmerge.merging.methods.compress_then_merge import CompressThenMergeSettings, compress_then_merge

MODULE = f"{ROOT}.0.q"


def tucker(tensor: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Bases of the first two modes of (out, in, N), a whole tensor and its unfoldings at a time."""

    def leading(part: np.ndarray, mode: int) -> np.ndarray:
        return thin_svd(np.moveaxis(part, mode, 0).reshape(part.shape[mode], -1))[0][:, :rank]

    left, right = leading(tensor, 0), leading(tensor, 1)
    errors: list[float] = []
    for step in range(1000):
        left = leading(np.einsum("oin,ir->orn", tensor, right), 0)
        right = leading(np.einsum("oin,or->rin", tensor, left), 1)
        core = np.einsum("oin,or,is->rsn", tensor, left, right)
        errors.append(np.sqrt(abs((tensor**2).sum() - (core**2).sum()) / (tensor**2).sum()))
        if step > 1 and abs(errors[-2] - errors[-1]) < 1e-6:
            break
    return left, right


def by_definition(deltas: list[np.ndarray], rank: int, weight: float, keep: float) -> np.ndarray:
    norms = [np.linalg.norm(delta) for delta in deltas]
    level = [d * (weight * n + (1 - weight) * np.mean(norms)) / n for d, n in zip(deltas, norms, strict=True)]
    left, right = tucker(np.stack(level, axis=-1), rank)
    cores = [left.T @ delta @ right for delta in deltas]
    return left @ elected_mean([keep_largest(c.ravel(), keep).reshape(c.shape) for c in cores]) @ right.T


@pytest.mark.parametrize(("weight", "expected"), [(1.0, [4, 0]), (0.0, [0, 2])])
def test_by_hand(weight: float, expected: list[float]) -> None:
    # as they are, the first direction holds 16 of 24; with norms made equal, the second one holds two thirds. The
    # cores are 4, 0, 0 or 0, 2, 2, and the mean is over those that are not zero; then times λ
    inputs = MergeInput(experts_of([[4, 0], [0, 0]], [[0, 0], [0, 2]], [[0, 0], [0, 2]]), "delta")
    changes = CompressThenMergeSettings(core_rank=1, norm_weight=weight, keep=1.0, scale=3.0)
    assert_same(compress_then_merge(inputs, changes).state, {MODULE: 3 * np.diag(expected)})


@settings(max_examples=25, deadline=None)
@given(
    spec=expert_specs,
    rank=st.sampled_from([None, 1, 2, 16]),
    weight=st.sampled_from([0.0, 0.25, 1.0]),
    keep=st.sampled_from([0.25, 1.0]),
)
def test_agrees_with_the_iteration_on_dense_updates(spec: dict, rank: int | None, weight: float, keep: float) -> None:
    experts = random_experts(**spec)
    expected = {
        module: 0.75 * by_definition(deltas, rank or max(spec["ranks"]), weight, keep)
        for module, deltas in deltas_of(experts).items()
    }
    changes = CompressThenMergeSettings(core_rank=rank, norm_weight=weight, keep=keep)
    assert_same(compress_then_merge(MergeInput(experts, "delta"), changes).state, expected, 1e-5)


@pytest.mark.parametrize(("rank", "expected"), [(None, 3), (2, 2), (16, 6)])
def test_the_result_has_the_rank_of_the_bases(rank: int | None, expected: int) -> None:
    experts = random_experts([(9, 8)], [2, 3, 1], 4)
    changes = CompressThenMergeSettings(core_rank=rank, then="task_arithmetic")
    factors = compress_then_merge(MergeInput(experts, "delta"), changes).state.modules[MODULE]
    assert factors.rank == expected == np.linalg.matrix_rank(factors.delta().numpy())


def test_bases_of_the_joint_rank_lose_nothing() -> None:
    experts = random_experts([(9, 8), (3, 9)], [2, 3, 1], 4)
    changes = CompressThenMergeSettings(core_rank=6, then="task_arithmetic", scale=0.5)
    expected = {module: 0.5 * sum(deltas) for module, deltas in deltas_of(experts).items()}
    assert_same(compress_then_merge(MergeInput(experts, "delta"), changes).state, expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"then": "knots"}, "method.then='knots' must be one of task_arithmetic, ties, tsv, iso_c, tsv_iso_c"),
        ({"keep": 0.0}, "method.keep=0.0 must be greater than 0 and at most 1"),
        ({"norm_weight": 1.5}, "method.norm_weight=1.5: expected a share from 0 to 1"),
        ({"core_rank": 0}, "method.core_rank=0 must be null or a positive whole number"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CompressThenMergeSettings(**changes)
