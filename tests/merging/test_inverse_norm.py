"""The control by norms against hand-worked shares and the dense formula."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.merging.builders import dense, distance, make_experts
from tests.merging.matrices import ROOT, experts_of

from esmerge.merging.api import MergeInput
from esmerge.merging.methods.average import average
from esmerge.merging.methods.inverse_norm import inverse_norm, inverse_shares, layer_norms
from esmerge.merging.ops.settings import ConvexSettings


def test_by_hand() -> None:
    # norms 5 and 10: shares 2/3 and 1/3, so 2/3 · (3, 4) + 1/3 · (0, 10), times a scale of 3
    inputs = MergeInput(experts_of([[3, 4], [0, 0]], [[0, 10], [0, 0]]), "delta")
    merged = inverse_norm(inputs, ConvexSettings(scale=3.0))
    assert dense(merged.state)[f"{ROOT}.0.q"].numpy() == pytest.approx(np.array([[6, 18], [0, 0]]))
    assert {name: alpha.tolist() for name, alpha in merged.coefficients.layer.items()} == {
        "e0": [pytest.approx(2 / 3)],
        "e1": [pytest.approx(1 / 3)],
    }


@settings(max_examples=15, deadline=None)
@given(count=st.integers(2, 5), layers=st.integers(1, 3), seed=st.integers(0, 999))
def test_agrees_with_the_formula_on_dense_updates(count: int, layers: int, seed: int) -> None:
    experts = make_experts(count, layers, seed=seed)
    updates = {name: {m: d.numpy() for m, d in dense(state).items()} for name, state in experts.items()}
    merged = dense(inverse_norm(MergeInput(experts, "delta"), ConvexSettings()).state)
    for layer in range(layers):
        modules = [module for module in merged if f".layers.{layer}." in module]
        inverse = {
            name: 1 / np.linalg.norm(np.concatenate([deltas[m].ravel() for m in modules]))
            for name, deltas in updates.items()
        }
        for module in modules:
            expected = sum(inverse[name] * deltas[module] for name, deltas in updates.items()) / sum(inverse.values())
            np.testing.assert_allclose(merged[module].numpy(), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_experts_of_one_norm_are_averaged_in_both_spaces() -> None:
    experts = make_experts(3)
    norms = {name: layer_norms(state) for name, state in experts.items()}
    level = {
        name: replace(
            state,
            modules={m: replace(f, b=f.b / norms[name][int(m.split(".")[4])]) for m, f in state.modules.items()},
        )
        for name, state in experts.items()
    }
    for space in ("factors", "delta"):
        inputs = MergeInput(level, space)
        expected = dense(average(inputs, ConvexSettings()).state)
        assert distance(inverse_norm(inputs, ConvexSettings()).state, expected) < 1e-5


def test_who_learnt_nothing_takes_no_part() -> None:
    norms = torch.tensor([[2.0, 0.0, 0.0], [6.0, 0.5, 0.0]])
    assert inverse_shares(norms).tolist() == [[0.75, 0.0, 0.5], [0.25, 1.0, 0.5]]
