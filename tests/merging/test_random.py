"""The control of random LoRAs: their sizes are the experts', and nothing else of the experts is left."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.merging.matrices import ROOT, assert_same, dense_of, random_experts

from esmerge.adapters.lora import LoraState
from esmerge.merging.api import MergeInput
from esmerge.merging.methods.random import random, stranger
from esmerge.merging.ops.settings import ConvexSettings

SHAPES = [(40, 30), (25, 50)]
SPACES = pytest.mark.parametrize("space", ["factors", "delta"])


def inputs_of(space: str, experts: dict[str, LoraState] | None = None, seed: int = 0) -> MergeInput:
    return MergeInput(experts or random_experts(SHAPES, [3, 3, 3], 5), space, seed)


@SPACES
def test_a_stranger_has_the_shapes_and_the_norms_of_its_expert(space: str) -> None:
    inputs = inputs_of(space)
    for name, expert in inputs.experts.items():
        adapter = stranger(inputs, name)
        assert adapter.header == expert.header
        for module, factors in expert.modules.items():
            part = adapter.modules[module]
            assert np.linalg.norm(part.a.numpy()) == pytest.approx(np.linalg.norm(factors.a.numpy()))
            if space == "factors":
                assert np.linalg.norm(part.b.numpy()) == pytest.approx(np.linalg.norm(factors.b.numpy()))
            else:
                updates = dense_of(adapter)[module], dense_of(expert)[module]
                assert np.linalg.norm(updates[0]) == pytest.approx(np.linalg.norm(updates[1]))


def test_updates_are_averaged_and_factors_by_themselves() -> None:
    inputs = inputs_of("delta")
    updates = [dense_of(stranger(inputs, name)) for name in inputs.experts]
    expected = {module: 0.4 * sum(tensors[module] for tensors in updates) for module in updates[0]}
    assert_same(random(inputs, ConvexSettings(scale=1.2)).state, expected)  # of three experts, at task arithmetic's λ
    inputs = inputs_of("factors")
    parts = [stranger(inputs, name).tensors() for name in inputs.experts]
    for key, tensor in random(inputs, ConvexSettings()).state.tensors().items():
        np.testing.assert_allclose(
            tensor.numpy(), np.mean([tensors[key].numpy() for tensors in parts], axis=0), atol=1e-12
        )


@SPACES
def test_what_experts_have_learnt_makes_no_difference(space: str) -> None:
    experts = random_experts(SHAPES, [3, 3, 3], 5)

    def turned(state: LoraState) -> LoraState:
        """Other updates of the same sizes: inputs and outputs in reverse order, and A with the opposite sign."""
        modules = {m: replace(f, a=-f.a.flip(1), b=f.b.flip(0)) for m, f in state.modules.items()}
        return replace(state, modules=modules)

    plain = random(inputs_of(space, experts), ConvexSettings()).state
    changed = random(inputs_of(space, {name: turned(state) for name, state in experts.items()}), ConvexSettings())
    assert_same(changed.state, dense_of(plain))


def test_strangers_share_nothing() -> None:
    inputs = inputs_of("delta")
    pairs = [(0, name) for name in inputs.experts] + [(1, "e0")]
    flat = [dense_of(stranger(replace(inputs, seed=seed), name))[f"{ROOT}.0.q"].ravel() for seed, name in pairs]
    unit = np.stack([vector / np.linalg.norm(vector) for vector in flat])
    assert np.abs(unit @ unit.T - np.eye(4)).max() < 0.2


@SPACES
def test_who_learnt_nothing_is_a_stranger_who_says_nothing(space: str) -> None:
    experts = random_experts(SHAPES, [3, 3], 5)
    empty = {m: replace(f, a=torch.zeros_like(f.a)) for m, f in experts["e0"].modules.items()}
    adapter = stranger(inputs_of(space, {**experts, "e0": replace(experts["e0"], modules=empty)}), "e0")
    assert all((delta == 0).all() for delta in dense_of(adapter).values())
