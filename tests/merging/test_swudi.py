"""SWUDI and ASWUDI against hand-worked matrices, the dense formula, a least-squares solver and gradient flow."""

from __future__ import annotations

import math
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
from esmerge.merging.methods.aswudi import AswudiSettings, aswudi, participation
from esmerge.merging.methods.regmean import through
from esmerge.merging.methods.swudi import SwudiSettings, swudi

MODULE = f"{ROOT}.0.q"
EVERYTHING = SwudiSettings(time=1e12, keep=1.0)  # the filter is 1 on every eigenvalue that there is


def dense_formula(deltas: list[np.ndarray], time: float | None, count: int | None) -> np.ndarray:
    """The paper's estimator on whole weights; without ``time`` f is 1, without ``count`` it is K."""
    norms = [np.sum(delta**2) for delta in deltas]
    normal = sum(delta.T @ delta / norm for delta, norm in zip(deltas, norms, strict=True))
    target = sum(delta @ delta.T @ delta / norm for delta, norm in zip(deltas, norms, strict=True))
    values, vectors = np.linalg.eigh(normal)
    values = np.maximum(values, 1e-8)
    if count is None:
        count = math.ceil(np.sqrt(values).sum() ** 2 / values.sum())
    filters = np.ones_like(values) if time is None else 1 - np.exp(-values * time)
    filters[: max(0, len(values) - count)] = 0.0
    total = sum(deltas)
    return (
        total
        - total @ vectors @ np.diag(filters) @ vectors.T
        + target @ vectors @ np.diag(filters / values) @ vectors.T
    )


def test_by_hand() -> None:
    # rows of one: updates (2, 0) and (3, 4), squared norms 4 and 25, so C = [[1, 0], [0, 0]] + [[9, 12], [12, 16]] / 25
    # and D = (2, 0) + (3, 4); the least squares are D C⁻¹, C⁻¹ = [[16, -12], [-12, 34]] / 16
    experts = experts_of([[2, 0], [0, 0]], [[3, 4], [0, 0]])
    merged = swudi(MergeInput(experts, "delta"), EVERYTHING).state
    expected = np.array([[5 * 16 - 4 * 12, -5 * 12 + 4 * 34], [0, 0]]) / 16
    assert_same(merged, {MODULE: expected})


def test_experts_that_share_no_input_are_added_up() -> None:
    experts = experts_of([[2, 0, 0], [0, 0, 0], [0, 0, 0]], [[0, 5, 0], [0, 0, 7], [0, 0, 0]])
    for merged in (
        swudi(MergeInput(experts, "delta"), EVERYTHING).state,
        aswudi(MergeInput(experts, "delta"), AswudiSettings()).state,
    ):
        assert_same(merged, {MODULE: np.array([[2.0, 5, 0], [0, 0, 7], [0, 0, 0]])})


def test_without_time_it_is_the_sum_and_with_all_of_it_one_expert_of_copies() -> None:
    expert = random_experts([(5, 7)], [2], 1)["e0"]
    inputs = MergeInput({"x": expert, "y": expert, "z": expert}, "delta")
    delta = dense_of(expert)[MODULE]
    assert_same(swudi(inputs, SwudiSettings(time=1e-12)).state, {MODULE: 3 * delta})
    assert_same(swudi(inputs, EVERYTHING).state, {MODULE: delta})
    # half way: two singular values s with eigenvalues 3 s² / Σ s², each taken 1 - exp(-Λ t) of the way from 3 to 1
    u, values, vt = np.linalg.svd(delta, full_matrices=False)
    filters = 1 - np.exp(-3 * values**2 / (values**2).sum() * 0.5)
    assert_same(swudi(inputs, SwudiSettings(time=0.5)).state, {MODULE: u * values * (3 - 2 * filters) @ vt})


@settings(max_examples=30, deadline=None)
@given(spec=expert_specs, time=st.sampled_from([0.3, 300.0, 1300.0]), keep=st.sampled_from([0.01, 0.3, 0.65, 1.0]))
def test_agrees_with_the_dense_formula(spec: dict, time: float, keep: float) -> None:
    experts = random_experts(**spec)
    expected = {
        module: dense_formula(deltas, time, math.ceil(keep * deltas[0].shape[1] - 1e-9))
        for module, deltas in deltas_of(experts).items()
    }
    merged = swudi(MergeInput(experts, "delta"), SwudiSettings(time=time, keep=keep)).state
    assert_same(merged, expected)


@settings(max_examples=30, deadline=None)
@given(spec=expert_specs)
def test_the_adaptive_one_agrees_with_the_dense_formula(spec: dict) -> None:
    experts = random_experts(**spec)
    expected = {module: dense_formula(deltas, None, None) for module, deltas in deltas_of(experts).items()}
    assert_same(aswudi(MergeInput(experts, "delta"), AswudiSettings()).state, expected)


def test_all_the_time_is_the_least_squares_solution() -> None:
    # WUDI's own objective, min over X of Σ |(X - T_i) T_iᵀ|² / |T_i|², by a solver that never forms C
    experts = random_experts([(6, 4)], [2, 3], 3)
    deltas = deltas_of(experts)[MODULE]
    norms = [np.linalg.norm(delta) for delta in deltas]
    left = np.concatenate([delta / norm for delta, norm in zip(deltas, norms, strict=True)])
    right = np.concatenate([delta @ delta.T / norm for delta, norm in zip(deltas, norms, strict=True)])
    expected = np.linalg.lstsq(left, right, rcond=None)[0].T
    assert_same(swudi(MergeInput(experts, "delta"), EVERYTHING).state, {MODULE: expected})


def test_time_is_that_of_gradient_flow_on_the_interference() -> None:
    experts = random_experts([(6, 4)], [2, 3], 3)
    deltas = deltas_of(experts)[MODULE]
    point, time, steps = sum(deltas), 1.5, 3000
    for _ in range(steps):
        slope = sum((point - delta) @ delta.T @ delta / (delta**2).sum() for delta in deltas)  # half the gradient
        point = point - time / steps * slope
    merged = swudi(MergeInput(experts, "delta"), SwudiSettings(time=time, keep=1.0)).state
    assert_same(merged, {MODULE: point}, tolerance=1e-3)


def test_it_is_regmean_on_the_updates_own_gram_matrices() -> None:
    experts = random_experts([(9, 5)], [3, 3], 0)  # together the updates fill all five inputs
    deltas = [torch.tensor(delta) for delta in deltas_of(experts)[MODULE]]
    grams = [delta.T @ delta / delta.square().sum() for delta in deltas]
    factors = [state.modules[MODULE] for state in experts.values()]
    projected = through([f.a for f in factors], grams, 1.0)  # whose factor of 1 acts as 0.9999
    expected = sum(f.scale * f.b @ a for f, a in zip(factors, projected, strict=True))
    merged = swudi(MergeInput(experts, "delta"), EVERYTHING).state
    assert_same(merged, {MODULE: expected.numpy()}, tolerance=0.02)


def test_an_expert_that_learnt_nothing_takes_no_part() -> None:
    state = random_experts([(5, 7)], [2], 1)["e0"]
    idle = LoraState({MODULE: replace(state.modules[MODULE], b=torch.zeros(5, 2, dtype=torch.float64))})
    for merged in (
        swudi(MergeInput({"x": state, "y": idle}, "delta"), EVERYTHING).state,
        aswudi(MergeInput({"x": state, "y": idle}, "delta"), AswudiSettings()).state,
    ):
        assert_same(merged, dense_of(state))


def test_the_number_of_directions() -> None:
    # (3 + 1 + 2e-4)² / (9 + 1 + 2e-8) is a little more than 1.6; four equal ones are four, and the empty ones one more
    assert participation(torch.tensor([9.0, 1.0], dtype=torch.float64), 4) == 2
    assert participation(torch.full((4,), 0.5, dtype=torch.float64), 4) == 4
    assert participation(torch.full((4,), 0.5, dtype=torch.float64), 100) == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"time": 0.0}, "method.time=0.0: expected a number above 0"),
        ({"keep": 0.0}, "method.keep=0.0"),
        ({"keep": 1.5}, "method.keep=1.5"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SwudiSettings(**changes)
