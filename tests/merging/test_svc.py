"""SVC against hand-worked matrices and the paper's loop over directions and experts, on dense updates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.merging.builders import dense
from tests.merging.matrices import (
    ROOT,
    assert_same,
    deltas_of,
    dense_of,
    elected_mean,
    expert_specs,
    experts_of,
    keep_largest,
    random_experts,
)

from esmerge.adapters.dense import DenseState
from esmerge.core.errors import ConfigError
from esmerge.merging.api import MergeInput
from esmerge.merging.methods.svc import SvcSettings, svc

MODULE = f"{ROOT}.0.q"


def loop(merged: np.ndarray, deltas: list[np.ndarray], alpha: float) -> np.ndarray:
    """Direction by direction, expert by expert."""
    u, values, vt = np.linalg.svd(merged, full_matrices=False)
    result = np.zeros_like(merged)
    for r, value in enumerate(values):
        if value <= 1e-9 * values.max():
            continue
        shares = []
        for delta in deltas:
            response = u[:, r] @ delta
            square = response @ response
            shares.append((u[:, r] @ merged) @ response / square if square > 1e-20 else 0.0)
        gamma = len(deltas) / sum(max(alpha, share) for share in shares)
        result += gamma * value * np.outer(u[:, r], vt[r])
    return result


def test_by_hand() -> None:
    # both experts have the first direction, 2 and 4; the second one alone has the other one. The sum at 0.5 is
    # diag(3, 5): shares 3/2 and 3/4 in the first, so 3 · 2 / 2.25 = 8/3; nothing and 1/2 in the second, where nothing
    # counts as 0.1, so 5 · 2 / 0.6 = 50/3; then times a scale of 3
    inputs = MergeInput(experts_of([[2, 0], [0, 0]], [[4, 0], [0, 10]]), "delta")
    merged = svc(inputs, SvcSettings(first_scale=0.5, scale=3.0)).state
    assert_same(merged, {MODULE: np.diag([8.0, 50.0])})


@settings(max_examples=30, deadline=None)
@given(spec=expert_specs, alpha=st.sampled_from([0.01, 0.1, 1.0]), scale=st.sampled_from([0.3, 1.0]))
def test_agrees_with_the_papers_loop(spec: dict, alpha: float, scale: float) -> None:
    experts = random_experts(**spec)
    expected = {module: loop(scale * sum(deltas), deltas, alpha) for module, deltas in deltas_of(experts).items()}
    merged = svc(MergeInput(experts, "delta"), SvcSettings(first_scale=scale, alpha=alpha)).state
    assert_same(merged, expected)


def test_a_dense_merge_is_calibrated_too() -> None:
    experts = random_experts([(5, 7)], [2, 3, 1], 2)
    deltas = deltas_of(experts)[MODULE]
    trimmed = [keep_largest(delta.ravel(), 0.2).reshape(delta.shape) for delta in deltas]
    merged = svc(MergeInput(experts, "delta"), SvcSettings(first="ties", first_scale=1.0, scale=2.0)).state
    assert isinstance(merged, DenseState)
    expected = 2 * loop(elected_mean(trimmed), deltas, 0.1)
    np.testing.assert_allclose(dense(merged)[MODULE].numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("first", ["average", "task_arithmetic"])
def test_copies_of_an_expert_are_counted_once(first: str) -> None:
    expert = random_experts([(5, 7), (8, 3)], [2], 1)["e0"]
    for scale in (0.3, 1.0):
        merged = svc(MergeInput({"x": expert, "y": expert}, "delta"), SvcSettings(first=first, first_scale=scale)).state
        assert_same(merged, dense_of(expert))


def test_an_expert_that_leaves_a_module_alone_does_not_count() -> None:
    inputs = MergeInput(experts_of([[2, 0], [0, 5]], [[0, 0], [0, 0]]), "delta")
    assert_same(svc(inputs, SvcSettings()).state, {MODULE: np.diag([2.0, 5.0])})
    silent = MergeInput(experts_of([[0, 0], [0, 0]], [[0, 0], [0, 0]]), "delta")
    assert_same(svc(silent, SvcSettings()).state, {MODULE: np.zeros((2, 2))})


def test_experts_that_share_no_direction_of_the_output_are_stretched_by_what_the_others_count() -> None:
    # each of two directions is one expert's: its share is 0.3, the other's counts as 0.1, so 0.3 · 2 / 0.4 = 1.5
    inputs = MergeInput(experts_of([[2, 0], [0, 0]], [[0, 0], [0, 10]]), "delta")
    assert_same(svc(inputs, SvcSettings()).state, {MODULE: np.diag([3.0, 15.0])})


@pytest.mark.parametrize(("first", "scale"), [("average", 1.0), ("task_arithmetic", 0.3), ("ties", 1.0), ("tsv", 1.0)])
def test_the_first_merge_has_its_published_scale(first: str, scale: float) -> None:
    inputs = MergeInput(random_experts([(5, 7), (8, 3)], [2], 3), "delta")
    by_default, named = (
        svc(inputs, SvcSettings(first=first, first_scale=value, alpha=1.0)).state for value in (None, scale)
    )
    for module, update in dense(named).items():
        np.testing.assert_allclose(dense(by_default)[module].numpy(), update.numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first": "iso_c"}, "method.first='iso_c' must be one of average, task_arithmetic, ties, tsv"),
        ({"alpha": 0.0}, "method.alpha=0.0: expected a number above 0"),
        ({"first_scale": -1.0}, "method.first_scale=-1.0: expected a number above 0"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SvcSettings(**changes)
