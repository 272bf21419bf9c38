"""Core Space against hand-worked cores, the merges it equals, and the dense formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.merging.matrices import (
    ROOT,
    assert_same,
    deltas_of,
    dense_of,
    elected_mean,
    expert_specs,
    keep_largest,
    random_experts,
)

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.core.errors import ConfigError
from esmerge.merging.api import MergeInput
from esmerge.merging.methods.core_space import CoreSpaceSettings, core_space, reference_basis
from esmerge.merging.methods.iso_c import IsoCSettings, iso_c
from esmerge.merging.methods.task_arithmetic import TaskArithmeticSettings, task_arithmetic
from esmerge.merging.methods.tsv import TsvSettings, tsv
from esmerge.merging.ops.spectral import factors_of


def test_ties_by_hand() -> None:
    # B and A of both experts lie on the axes, so the reference bases are the axes and the cores are the updates
    # diag(6, 1) and diag(2, -4), up to order and signs
    def state(b: list[list[float]], a: list[list[float]]) -> LoraState:
        return LoraState({f"{ROOT}.0.q": LoraFactors(torch.tensor(a), torch.tensor(b), 1.0)})

    x, y = state([[2.0, 0], [0, 1]], [[3.0, 0], [0, 1]]), state([[2.0, 0], [0, 1]], [[1.0, 0], [0, -4]])
    inputs = MergeInput({"x": x, "y": y}, "delta")
    # 1 of 4 entries each: 6 of the one, -4 of the other
    merged = core_space(inputs, CoreSpaceSettings(then="ties", keep=0.25)).state
    assert_same(merged, {f"{ROOT}.0.q": np.diag([6.0, -4])})
    # all entries: the mean of 6 and 2; the sum of 1 and -4 is negative, so -4 alone; then times λ
    merged = core_space(inputs, CoreSpaceSettings(then="ties", keep=1.0, scale=3.0)).state
    assert_same(merged, {f"{ROOT}.0.q": np.diag([12.0, -12])})


@settings(max_examples=30, deadline=None)
@given(spec=expert_specs, keep=st.sampled_from([0.2, 0.5, 1.0]))
def test_ties_agrees_with_the_dense_formula(spec: dict, keep: float) -> None:
    experts = random_experts(**spec)
    expected = {}
    for module, deltas in deltas_of(experts).items():
        parts = [state.modules[module] for state in experts.values()]
        left = np.linalg.svd(np.hstack([f.scale * f.b.numpy() for f in parts]), full_matrices=False)[0]
        right = np.linalg.svd(np.vstack([f.a.numpy() for f in parts]), full_matrices=False)[2]
        cores = [left.T @ delta @ right.T for delta in deltas]
        trimmed = [keep_largest(core.ravel(), keep).reshape(core.shape) for core in cores]
        expected[module] = left @ elected_mean(trimmed) @ right
    merged = core_space(MergeInput(experts, "delta"), CoreSpaceSettings(then="ties", keep=keep)).state
    assert_same(merged, expected)


@settings(max_examples=20, deadline=None)
@given(spec=expert_specs)
def test_cores_hold_every_update_without_loss(spec: dict) -> None:
    experts = random_experts(**spec)
    for module, deltas in deltas_of(experts).items():
        basis = reference_basis(factors_of(experts, module))
        for core, delta in zip(basis.cores, deltas, strict=True):
            np.testing.assert_allclose(basis.left.numpy() @ core.numpy() @ basis.right.numpy().T, delta, atol=1e-10)


@settings(max_examples=20, deadline=None)
@given(spec=expert_specs)
def test_merges_that_do_not_see_the_basis_are_those_of_the_updates(spec: dict) -> None:
    inputs = MergeInput(random_experts(**spec), "delta")
    references = {
        "task_arithmetic": task_arithmetic(inputs, TaskArithmeticSettings(scale=1.0)),
        "iso_c": iso_c(inputs, IsoCSettings()),
        "tsv": tsv(inputs, TsvSettings(keep=1.0)),
    }
    for then, expected in references.items():
        assert_same(core_space(inputs, CoreSpaceSettings(then=then)).state, dense_of(expected.state))


@settings(max_examples=20, deadline=None)
@given(spec=expert_specs)
def test_tsv_iso_c_flattens_what_tsv_leaves(spec: dict) -> None:
    inputs = MergeInput(random_experts(**spec), "delta")
    plain = core_space(inputs, CoreSpaceSettings(then="tsv")).state
    flat = dense_of(core_space(inputs, CoreSpaceSettings(then="tsv_iso_c", scale=2.0)).state)
    for module, delta in dense_of(plain).items():
        u, values, vt = np.linalg.svd(delta, full_matrices=False)
        nonzero = values > 1e-7 * values.max()
        expected = 2 * values[nonzero].mean() * u[:, nonzero] @ vt[nonzero]
        np.testing.assert_allclose(flat[module], expected, atol=1e-6 * values.max())


def test_settings_are_checked() -> None:
    allowed = "task_arithmetic, ties, tsv, iso_c, tsv_iso_c"
    with pytest.raises(ConfigError, match=f"method.then='knots' must be one of {allowed}"):
        CoreSpaceSettings(then="knots")
    with pytest.raises(ConfigError, match="method.keep=0.0 must be greater than 0 and at most 1"):
        CoreSpaceSettings(keep=0.0)
