"""RegMean against hand-worked channels and a least-squares solver on the inputs themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.merging.builders import dense, distance, make_experts

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.calibration.statistics.gram import GramSettings
from esmerge.core.errors import ConfigError
from esmerge.merging.api import MergeInput
from esmerge.merging.methods.average import average
from esmerge.merging.methods.regmean import RegMeanSettings, regmean, through
from esmerge.merging.ops.settings import ConvexSettings

MODULE = "base_model.model.model.layers.0.q_proj"


def vector(*row: float) -> LoraState:
    """An adapter of one module whose update is a single row."""
    return LoraState({MODULE: LoraFactors(torch.tensor([row]), torch.ones(1, 1), 1.0)})


def with_grams(experts: dict[str, LoraState], grams: dict[str, dict[str, torch.Tensor]]) -> MergeInput:
    return MergeInput(experts, "delta", statistics={"gram": grams})


def test_by_hand() -> None:
    # without off-diagonals every channel is a mean weighted by its energy:
    # channel 0: (3·4 + 1·8) / 4 = 5; channel 1: only y sees it, so 2; channel 2: nobody does, so the mean of 6 and 0
    experts = {"x": vector(4.0, 10.0, 6.0), "y": vector(8.0, 2.0, 0.0)}
    grams = {"x": {MODULE: torch.diag(torch.tensor([3.0, 0, 0]))}, "y": {MODULE: torch.diag(torch.tensor([1.0, 5, 0]))}}
    merged = regmean(with_grams(experts, grams), RegMeanSettings(off_diagonal=0.0, scale=2.0)).state
    assert dense(merged)[MODULE].tolist() == [pytest.approx([10.0, 4.0, 6.0])]


def test_shrinking_by_hand() -> None:
    # factor 0.5: G_1 = [[2, 0.5], [0.5, 4]], G_2 = [[2, 0], [0, 0]], and the sum [[4, 0.5], [0.5, 4]];
    # A_1 G_1 = [2, 0.5], A_2 G_2 = [0, 0]
    grams = [torch.tensor([[2.0, 1], [1, 4]]), torch.tensor([[2.0, 0], [0, 0]])]
    first, second = through([torch.tensor([[1.0, 0]]), torch.tensor([[0.0, 1]])], grams, 0.5)
    total = np.array([[4, 0.5], [0.5, 4]])
    np.testing.assert_allclose(first.numpy(), np.array([[2, 0.5]]) @ np.linalg.inv(total))
    assert second.tolist() == [[0, 0]]


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 5), st.sampled_from([0.0, 0.1, 0.9]), st.integers(0, 999))
def test_agrees_with_the_papers_formula_on_dense_weights(count: int, factor: float, seed: int) -> None:
    # the paper's formula is for (in, out) weights of whole models: backbone plus update, here in NumPy
    rng = np.random.default_rng(seed)
    experts = make_experts(count, seed=seed)
    inputs = {
        name: {module: rng.normal(size=(30, f.a.shape[1])) for module, f in state.modules.items()}
        for name, state in experts.items()
    }
    grams = {
        name: {m: torch.tensor(x.T @ x / len(x)) for m, x in matrices.items()} for name, matrices in inputs.items()
    }
    merged = dense(regmean(with_grams(experts, grams), RegMeanSettings(off_diagonal=factor)).state)
    for module, update in merged.items():
        backbone = rng.normal(size=update.shape)
        gram = {name: matrices[module].numpy() for name, matrices in grams.items()}
        gram = {name: g * (factor + (1 - factor) * np.eye(len(g))) for name, g in gram.items()}
        weights = {name: (backbone + dense(state)[module].numpy()).T for name, state in experts.items()}
        total = np.linalg.inv(sum(gram.values())) @ sum(gram[name] @ weights[name] for name in experts)
        np.testing.assert_allclose(update.numpy(), total.T - backbone, rtol=0, atol=1e-4 * np.abs(total).max())


def test_a_factor_of_one_is_the_least_squares_solution() -> None:
    # min over W of Σ_i |X_i Wᵀ - X_i ΔW_iᵀ|² by a solver that never forms a Gram matrix; the factor acts as 0.9999
    rng = np.random.default_rng(0)
    experts = make_experts(3)
    inputs = {name: rng.normal(size=(40, 9)) for name in experts}
    module = "base_model.model.model.layers.1.mlp.down_proj"
    short = {name: LoraState({module: state.modules[module]}) for name, state in experts.items()}
    targets = [x @ dense(short[name])[module].numpy().T for name, x in inputs.items()]
    expected = np.linalg.lstsq(np.concatenate(list(inputs.values())), np.concatenate(targets), rcond=None)[0].T
    grams = {name: {module: torch.tensor(x.T @ x / len(x))} for name, x in inputs.items()}
    update = dense(regmean(with_grams(short, grams), RegMeanSettings(off_diagonal=1.0)).state)[module]
    np.testing.assert_allclose(update.numpy(), expected, rtol=0, atol=1e-3 * np.abs(expected).max())


def test_equal_grams_give_the_average() -> None:
    experts = make_experts(3)
    draw = torch.Generator().manual_seed(0)
    first = next(iter(experts.values()))
    shared = {m: torch.randn(20, f.a.shape[1], generator=draw) for m, f in first.modules.items()}
    grams = {name: {m: x.T @ x for m, x in shared.items()} for name in experts}
    expected = dense(average(MergeInput(experts, "delta"), ConvexSettings()).state)
    assert distance(regmean(with_grams(experts, grams), RegMeanSettings()).state, expected) < 1e-5


@pytest.mark.parametrize("factor", [0.9, 1.0])
def test_one_token_per_expert_is_enough(factor: float) -> None:
    # the sum of the Gram matrices has rank 2 of up to 9; identical experts must still return themselves
    expert = make_experts(2)["expert1"]
    draw = torch.Generator().manual_seed(1)
    grams: dict[str, dict[str, torch.Tensor]] = {}
    for name in ("x", "y"):
        tokens = {m: torch.randn(1, f.a.shape[1], generator=draw) for m, f in expert.modules.items()}
        grams[name] = {m: x.T @ x for m, x in tokens.items()}
    merged = regmean(with_grams({"x": expert, "y": expert}, grams), RegMeanSettings(off_diagonal=factor)).state
    assert distance(merged, dense(expert)) < 1e-5
    assert isinstance(merged, LoraState) and all(factors.rank == 4 for factors in merged.modules.values())


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_the_factor_is_a_share(value: float) -> None:
    with pytest.raises(ConfigError, match=f"method.off_diagonal={value}"):
        RegMeanSettings(off_diagonal=value)


def test_tokens_are_own_or_all() -> None:
    with pytest.raises(ConfigError, match="method.gram.tokens='some' must be one of own, all"):
        GramSettings(tokens="some")
