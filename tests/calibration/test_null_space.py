"""NSC's shares against orthogonal projections, its loss against plain forward passes, and what its fit leaves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import small
from tests.calibration.direct import linear_inputs, own_places, same, snapshot

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.calibration.api import CalibrationData
from esmerge.calibration.fitting import mixture
from esmerge.calibration.statistics.null_space import (
    NullSpaceSettings,
    drawn,
    null_share,
    null_shares,
    null_space,
    projections,
    watched_modules,
)
from esmerge.core.errors import AdapterError, ConfigError, InputError
from esmerge.core.names import layer_of
from esmerge.core.prompts import Entity
from esmerge.merging.api import MergeInput
from esmerge.merging.methods.nsc import NscSettings
from esmerge.merging.run import merge
from esmerge.probe.prompts import ProbeSettings
from esmerge.probe.variants.mixed import mixed as mixed_probe

THREE = {"mol": "molecule", "prot": "protein", "gene": "cell"}
QUICK = NullSpaceSettings(steps=8, rate=0.02, batch=2, watched="q_proj", depth=0.5)  # layers 1 and 2 of three


def material(samples: int = 4, seed: int = 0) -> CalibrationData:
    specialists = small.specialists(THREE)
    return CalibrationData(specialists, mixed_probe(ProbeSettings(samples=samples), specialists, 0), 2, seed)


def null_part(z: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Share of each row's norm outside the row space of A, by an orthonormal basis."""
    basis = np.linalg.svd(a, full_matrices=False)[2]
    return np.linalg.norm(z - z @ basis.T @ basis, axis=1) / np.linalg.norm(z, axis=1)


def test_shares_by_hand() -> None:
    # A sees the first axis alone: of (3, 4) it misses 4/5, of (0, 2) all, of (7, 0) nothing
    z, a = torch.tensor([[3.0, 4], [0, 2], [7, 0]]), torch.tensor([[10.0, 0]])
    assert null_shares(z, a, torch.tensor([[0.01]])).tolist() == pytest.approx([0.8, 1.0, 0.0], abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(rank=st.integers(1, 4), seed=st.integers(0, 999))
def test_shares_are_those_of_the_orthogonal_projection(rank: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    z, a = rng.normal(size=(6, 8)), rng.normal(size=(rank, 8))
    inverse = torch.tensor(np.linalg.inv(a @ a.T)).float()
    shares = null_shares(torch.tensor(z).float(), torch.tensor(a).float(), inverse)
    np.testing.assert_allclose(shares.numpy(), null_part(z, a), atol=1e-3)


@pytest.mark.parametrize("tokens", ["own", "all"])
def test_the_loss_equals_projections_of_inputs_caught_by_hand(tokens: str) -> None:
    # the model under coefficients of 0.3 and 0.6 … is the one with that many times each update, baked into one adapter
    data = material()
    specialists, watched = data.specialists, watched_modules(data.specialists, QUICK)
    assert {layer_of(module) for module in watched} == {1, 2} and all(m.endswith("q_proj") for m in watched)
    modules = list(specialists.adapters["mol"].modules)
    weights = torch.rand(3, len(modules), generator=torch.Generator().manual_seed(0))
    sums = {
        module: sum(weights[i, j] * s.modules[module].delta() for i, s in enumerate(specialists.adapters.values()))
        for j, module in enumerate(modules)
    }
    baked = LoraState({module: LoraFactors(delta, torch.eye(len(delta)), 1.0) for module, delta in sums.items()})
    for name, state in specialists.adapters.items():
        shares: dict[str, list[float]] = {module: [] for module in watched}
        for prompt in data.prompts:
            places = own_places(specialists, prompt, specialists.expert_modality[name])
            for module, z in linear_inputs(specialists, baked, prompt).items():
                if module in shares:
                    rows = z[places] if tokens == "own" else z
                    shares[module] += null_part(rows.numpy(), state.modules[module].a.numpy()).tolist()
        expected = np.mean([np.mean(values) for values in shares.values()])
        batch = specialists.prompt_encoder.batch(data.prompts)
        with mixture(specialists.backbone.model, specialists.adapters, modules.index) as mixed, torch.no_grad():
            mixed.weights = weights
            share = null_share(specialists, name, batch, projections(specialists, name, watched), tokens)
        assert float(share) == pytest.approx(float(expected), rel=1e-4)


def test_the_fit_lowers_the_loss_and_moves_nothing_that_does_not_matter() -> None:
    data = material()
    specialists, watched = data.specialists, watched_modules(data.specialists, QUICK)
    modules = list(specialists.adapters["mol"].modules)
    batch = specialists.prompt_encoder.batch(data.prompts)

    def loss(weights: torch.Tensor) -> float:
        with mixture(specialists.backbone.model, specialists.adapters, modules.index) as mixed, torch.no_grad():
            mixed.weights = weights
            parts = [
                null_share(specialists, name, batch, projections(specialists, name, watched), "own") for name in THREE
            ]
        return float(sum(parts))

    fitted = null_space(data, replace(QUICK, steps=30))
    weights = torch.stack([torch.stack([fitted[name][module] for module in modules]) for name in THREE])
    assert loss(weights) < loss(torch.full_like(weights, 0.4)) - 1e-3
    for name in THREE:
        for module in modules:
            is_below = layer_of(module) < 2  # what stands beside or above the last watched input decides nothing
            assert (float(fitted[name][module]) != pytest.approx(0.4, abs=1e-6)) == is_below


def test_what_is_merged_is_what_was_fitted() -> None:
    data = material()
    specialists = data.specialists
    fitted = null_space(data, QUICK)
    inputs = MergeInput(specialists.adapters, "delta", statistics={"null_space": fitted})
    merged = merge("nsc", inputs, NscSettings(scale=2.0)).state
    for module, factors in merged.modules.items():
        expected = sum(
            2 * float(fitted[name][module]) * state.modules[module].delta()
            for name, state in specialists.adapters.items()
        )
        torch.testing.assert_close(factors.delta(), expected, rtol=1e-4, atol=1e-5)
    incomplete = {name: dict(list(coefficients.items())[1:]) for name, coefficients in fitted.items()}
    with pytest.raises(AdapterError, match="gives expert 'mol' no coefficient for .*layers.0.self_attn.q_proj"):
        merge("nsc", replace(inputs, statistics={"null_space": incomplete}), NscSettings())


def test_every_prompt_has_its_turn_before_one_comes_again() -> None:
    data = material(samples=5)
    turns = [prompt for step in range(5) for prompt in drawn(data, "mol", step, 2)]
    assert len(turns) == 10
    for half in (turns[:5], turns[5:]):
        assert sorted(map(str, half)) == sorted(map(str, data.prompts))
    assert [drawn(data, "mol", step, 2) for step in range(5)] != [drawn(data, "prot", step, 2) for step in range(5)]


def test_the_specialists_are_left_as_found_and_one_seed_gives_one_fit() -> None:
    data = material()
    before = snapshot(data.specialists)
    first, second = null_space(data, QUICK), null_space(data, QUICK)
    assert same(before, data.specialists)
    assert all(torch.equal(first[name][module], value) for name in first for module, value in second[name].items())


def test_what_cannot_be_watched_is_refused_by_name() -> None:
    data = material()
    with pytest.raises(ConfigError, match="watched='v_proj'.*from layer 2 on.*change down_proj, o_proj, q_proj of"):
        null_space(data, NullSpaceSettings())
    silent = replace(data, prompts=[("drug : ", Entity("molecule", "CCO"))])
    with pytest.raises(InputError, match="the probe holds no protein"):
        null_space(silent, QUICK)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "method.null_space.steps=0: expected a number from 1"),
        ({"rate": 0.0}, "method.null_space.rate=0.0: expected a number above 0"),
        ({"depth": 0.0}, "method.null_space.depth=0.0 must be greater than 0"),
        ({"tokens": "some"}, "method.null_space.tokens='some' must be one of own, all"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NullSpaceSettings(**changes)
