"""KnOTS against hand-worked numbers and the SVD of the dense updates side by side."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.merging.matrices import (
    ROOT,
    Deltas,
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
from esmerge.core.torch_rng import torch_generator
from esmerge.merging.api import MergeInput
from esmerge.merging.methods.knots import KnotsSettings, aligned, knots
from esmerge.merging.ops.spectral import factors_of


def test_one_output_by_hand() -> None:
    # with one output U is 1 and the aligned updates are the updates: x -> (5, 0, 2, 0, 3), y -> (-4, 2, 0, 6, 0) after
    # keeping 3 of 5; sums (1, 2, 2, 6, 3); only x agrees on the first entry
    experts = experts_of([[5, -1, 2, 0.1, 3]], [[-4, 2, 1, 6, 0.2]])
    merged = knots(MergeInput(experts, "delta"), KnotsSettings(keep=0.6, scale=1.0)).state
    assert_same(merged, {f"{ROOT}.0.q": np.array([[5.0, 2, 2, 6, 3]])})


def test_experts_with_different_outputs_are_added() -> None:
    # U is made of the axes, each used by one expert; without a trim every entry has one contributor: λ times the sum
    experts = experts_of([[3, 1, 0], [0, 0, 0]], [[0, 0, 0], [-1, 0, 2]])
    merged = knots(MergeInput(experts, "delta"), KnotsSettings(scale=0.5)).state
    assert_same(merged, {f"{ROOT}.0.q": np.array([[1.5, 0.5, 0], [-0.5, 0, 1]])})


def joint(deltas: Deltas) -> dict[str, tuple[np.ndarray, list[np.ndarray]]]:
    """Module -> U and the experts' S V_iᵀ, from the SVD of ``[ΔW_1 | … | ΔW_N]``."""
    bases = {}
    for module, updates in deltas.items():
        u, values, vt = thin_svd(np.hstack(updates))
        bases[module] = u, np.split(np.diag(values) @ vt, len(updates), axis=1)
    return bases


@settings(max_examples=30, deadline=None)
@given(spec=expert_specs, keep=st.sampled_from([0.2, 0.5, 1.0]))
def test_ties_agrees_with_the_dense_formula(spec: dict, keep: float) -> None:
    experts = random_experts(**spec)
    bases = joint(deltas_of(experts))
    trimmed: list[list[np.ndarray]] = []
    for i in range(len(experts)):  # the trim counts over all modules of an expert
        rows = [parts[i] for _, parts in bases.values()]
        flat = keep_largest(np.concatenate([row.ravel() for row in rows]), keep)
        segments = np.split(flat, np.cumsum([row.size for row in rows])[:-1])
        trimmed.append([segment.reshape(row.shape) for segment, row in zip(segments, rows, strict=True)])
    expected = {
        module: u @ elected_mean([parts[index] for parts in trimmed])
        for index, (module, (u, _)) in enumerate(bases.items())
    }
    merged = knots(MergeInput(experts, "delta"), KnotsSettings(keep=keep, scale=1.0)).state
    assert_same(merged, expected)


@settings(max_examples=20, deadline=None)
@given(spec=expert_specs, drop=st.sampled_from([0.0, 0.3, 0.8]))
def test_dare_agrees_with_the_dense_formula_on_the_same_draws(spec: dict, drop: float) -> None:
    experts = random_experts(**spec)
    expected = {}
    for module, (u, rows) in joint(deltas_of(experts)).items():
        thinned = []
        for name, part in zip(experts, rows, strict=True):
            draw = torch_generator(7, "knots", name, module)
            numbers = torch.rand(part.shape, generator=draw, dtype=torch.float64).numpy()
            thinned.append(np.where(numbers >= drop, part, 0) / (1 - drop))
        expected[module] = u @ elected_mean(thinned)
    merged = knots(MergeInput(experts, "delta", seed=7), KnotsSettings(then="dare", drop=drop, scale=1.0)).state
    assert_same(merged, expected)


@settings(max_examples=20, deadline=None)
@given(spec=expert_specs)
def test_the_alignment_loses_nothing(spec: dict) -> None:
    experts = random_experts(**spec)
    for module, deltas in deltas_of(experts).items():
        alignment = aligned(factors_of(experts, module))
        height = alignment.left.shape[1]
        np.testing.assert_allclose(alignment.left.numpy().T @ alignment.left.numpy(), np.eye(height), atol=1e-10)
        for rows, delta in zip(alignment.rows, deltas, strict=True):
            np.testing.assert_allclose(alignment.left.numpy() @ rows.numpy(), delta, atol=1e-10)


def test_directions_that_no_update_has_do_not_count() -> None:
    # two copies of an expert of rank 2: the stacked factors have rank 4, the updates 2; a half is 7 of 2 · 7 entries
    expert = random_experts([(5, 7)], [2], 0)["e0"]
    experts = {"x": expert, "y": expert}
    assert aligned(factors_of(experts, f"{ROOT}.0.q")).rows.shape == (2, 2, 7)
    merged = knots(MergeInput(experts, "delta"), KnotsSettings(keep=0.5)).state
    assert int((merged.modules[f"{ROOT}.0.q"].a != 0).sum()) == 7


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="method.then='average' must be one of ties, dare"):
        KnotsSettings(then="average")
    with pytest.raises(ConfigError, match="method.keep=0.0 must be greater than 0 and at most 1"):
        KnotsSettings(keep=0.0)
    with pytest.raises(ConfigError, match="method.drop=1.0 must be at least 0 and less than 1"):
        KnotsSettings(drop=1.0)
