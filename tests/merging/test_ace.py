"""ACE-Merging against the dense formula step by step, and in the cases that can be worked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.merging.matrices import ROOT, assert_same, deltas_of, dense_of, expert_specs, experts_of, random_experts

from esmerge.adapters.lora import LoraState
from esmerge.core.errors import ConfigError
from esmerge.merging.api import MergeInput
from esmerge.merging.methods.ace import AceSettings, ace, is_heterogeneous

MODULE = f"{ROOT}.0.q"


def dense_formula(deltas: list[np.ndarray], epsilon: float, keep: float) -> np.ndarray:
    """On whole weights, one expert after the other."""
    width = deltas[0].shape[1]
    energies = np.array([np.trace(delta.T @ delta) for delta in deltas])
    logs = np.log(energies)
    differ = np.var(logs, ddof=1) / np.mean(logs) ** 2 > 0.3
    numerator, total, covariances = np.zeros_like(deltas[0]), np.zeros((width, width)), []
    for delta in deltas:
        centred = delta - delta.mean(axis=0)
        covariance = centred.T @ centred
        trace = np.trace(covariance) + 1e-12 if differ else 1.0
        covariances.append(covariance / trace)
        ridged = covariances[-1] + epsilon / trace * np.eye(width)
        numerator += centred @ ridged
        total += ridged
    prior = sum(covariances).mean(axis=0)
    prior = prior / energies.mean() if differ else prior
    merged = numerator @ np.linalg.inv(total + np.tile(prior, (width, 1)))
    if not differ:
        return merged
    fused = merged + sum(d @ (c - total / len(deltas)) for d, c in zip(deltas, covariances, strict=True))
    u, values, vt = np.linalg.svd(fused)
    count = max(1, int(keep * (values > 1e-7 * values.max()).sum()))
    return merged + values[:count].mean() * u[:, :count] @ vt[:count]


@pytest.mark.parametrize("count", [1, 2])
def test_experts_that_leave_a_module_alone_do_not_count(count: int) -> None:
    experts = random_experts([(7, 9)], [2] * count, 3)
    idle = random_experts([(7, 9)], [2], 4)["e0"]
    idle = replace(idle, modules={name: replace(f, b=torch.zeros_like(f.b)) for name, f in idle.modules.items()})
    alone = ace(MergeInput(experts, "delta"), AceSettings()).state
    beside = ace(MergeInput({**experts, "idle": idle}, "delta"), AceSettings()).state
    assert_same(beside, dense_of(alone))
    silent = ace(MergeInput({"x": idle, "y": idle}, "delta"), AceSettings()).state
    assert all(not update.any() for update in dense_of(silent).values())


def grown(experts: dict[str, LoraState], factor: float) -> dict[str, LoraState]:
    """The experts, each ``factor`` times as large as the one before."""
    return {
        name: replace(s, modules={m: replace(f, scale=f.scale * factor**i) for m, f in s.modules.items()})
        for i, (name, s) in enumerate(experts.items())
    }


@settings(max_examples=30, deadline=None)
@given(
    ranks=st.lists(st.integers(1, 3), min_size=2, max_size=4),
    shape=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    factor=st.sampled_from([1.0, 0.02]),
    epsilon=st.sampled_from([0.01, 1.0]),
    seed=st.integers(0, 999),
)
def test_agrees_with_the_dense_formula(
    ranks: list[int], shape: tuple[int, int], factor: float, epsilon: float, seed: int
) -> None:
    experts = grown(random_experts([shape], ranks, seed), factor)
    expected = {module: dense_formula(deltas, epsilon, 0.3) for module, deltas in deltas_of(experts).items()}
    assert_same(ace(MergeInput(experts, "delta"), AceSettings(epsilon=epsilon)).state, expected, tolerance=1e-5)


@pytest.mark.parametrize(("factor", "expected"), [(1.0, False), (0.02, True)])
def test_both_branches_are_reached(factor: float, expected: bool) -> None:
    deltas = deltas_of(grown(random_experts([(5, 7)], [2, 2, 2], 0), factor))[MODULE]
    energies = torch.tensor([float((delta**2).sum()) for delta in deltas])
    assert bool(is_heterogeneous(energies)) == expected


def test_a_large_ridge_is_the_mean_of_the_updates_without_their_mean_row() -> None:
    # columns (1, 3) and (0, 4) less their means are (-1, 1) and (-2, 2); half their sum, times a scale of 2
    inputs = MergeInput(experts_of([[1, 0], [3, 0]], [[0, 0], [0, 4]]), "delta")
    merged = ace(inputs, AceSettings(epsilon=1e9, scale=2.0)).state
    assert_same(merged, {MODULE: np.array([[-1.0, -2], [1, 2]])})


@settings(max_examples=10, deadline=None)
@given(spec=expert_specs)
def test_the_result_has_no_more_than_the_joint_rank(spec: dict) -> None:
    merged = ace(MergeInput(random_experts(**spec), "delta"), AceSettings()).state
    assert all(factors.rank <= sum(spec["ranks"]) for factors in merged.modules.values())


def test_experts_that_learnt_nothing_leave_nothing() -> None:
    experts = random_experts([(5, 7)], [2, 3], 0)
    idle = {
        name: replace(s, modules={m: replace(f, b=torch.zeros_like(f.b)) for m, f in s.modules.items()})
        for name, s in experts.items()
    }
    assert_same(ace(MergeInput(idle, "delta"), AceSettings()).state, {MODULE: np.zeros((5, 7))})


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"epsilon": 0.0}, "method.epsilon=0.0: expected a number above 0"), ({"keep": 2.0}, "method.keep=2.0")],
)
def test_settings_out_of_range_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AceSettings(**changes)
