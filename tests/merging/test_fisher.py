"""Fisher merging against hand-worked weights and the paper's formula in NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.merging.builders import dense, distance, make_experts, make_fisher

from esmerge.adapters.lora import LoraFactors, LoraState, delta_name, factor_name
from esmerge.calibration.statistics.fisher import FisherSettings
from esmerge.core.errors import ConfigError
from esmerge.merging.api import MergeInput
from esmerge.merging.methods.average import average
from esmerge.merging.methods.fisher import FisherMergingSettings, fisher
from esmerge.merging.ops.settings import ConvexSettings
from esmerge.merging.ops.space import tensor_shapes

MODULE = "base_model.model.model.layers.0.q_proj"


def vector(*row: float) -> LoraState:
    """An adapter of one module whose update is a single row."""
    return LoraState({MODULE: LoraFactors(torch.tensor([row]), torch.ones(1, 1), 1.0)})


def test_by_hand() -> None:
    # weights 3 : 1, then 0 : 2 with 0 raised to the floor of 1, then both at the floor
    experts = {"x": vector(4.0, 3.0, 1.0), "y": vector(8.0, 6.0, 5.0)}
    information = {"x": torch.tensor([[3.0, 0, 0.5]]), "y": torch.tensor([[1.0, 2, 0.1]])}
    measured = {"fisher": {name: {delta_name(MODULE): diagonal} for name, diagonal in information.items()}}
    plain = FisherMergingSettings(floor=1.0, normalise=False, scale=2.0)
    merged = fisher(MergeInput(experts, "delta", statistics=measured), plain).state
    assert dense(merged)[MODULE].tolist() == [pytest.approx([10.0, 10.0, 6.0])]
    # floored norms √(9 + 1 + 1) and √(1 + 4 + 1): the first entry's weights are 3/√11 and 1/√6
    merged = fisher(MergeInput(experts, "delta", statistics=measured), replace(plain, normalise=True)).state
    first, second = 3 / 11**0.5, 1 / 6**0.5
    assert float(dense(merged)[MODULE][0, 0]) == pytest.approx(2 * (4 * first + 8 * second) / (first + second))


def test_agrees_with_the_papers_formula_on_factors() -> None:
    experts = make_experts(3)
    measured = make_fisher(experts, "factors", 0)
    inputs = MergeInput(experts, "factors", statistics={"fisher": measured})
    merged = fisher(inputs, FisherMergingSettings()).state.tensors()
    norms = {
        name: np.sqrt(sum(float(diagonal.square().sum()) for diagonal in diagonals.values()))
        for name, diagonals in measured.items()
    }
    for key, tensor in merged.items():
        weights = {name: measured[name][key].numpy() / norms[name] for name in experts}
        total = sum(weights[name] * state.tensors()[key].numpy() for name, state in experts.items())
        np.testing.assert_allclose(tensor.numpy(), total / sum(weights.values()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("space", ["factors", "delta"])
def test_equal_information_gives_the_average(space: str) -> None:
    experts = make_experts(3)
    information = make_fisher({"one": experts["expert1"]}, space, 0)["one"]
    # an expert whose gradients are ten times as large has the same normalised information
    measured = {
        name: {key: 100.0**i * diagonal for key, diagonal in information.items()} for i, name in enumerate(experts)
    }
    inputs = MergeInput(experts, space, statistics={"fisher": measured})
    expected = dense(average(MergeInput(experts, space), ConvexSettings()).state)
    assert distance(fisher(inputs, FisherMergingSettings(floor=1e-12)).state, expected) < 1e-4


@pytest.mark.parametrize("normalise", [True, False])
def test_without_information_every_expert_counts_the_same(normalise: bool) -> None:
    experts = make_experts(2)
    zeros = {
        name: {key: torch.zeros(shape) for key, shape in tensor_shapes(state, "delta").items()}
        for name, state in experts.items()
    }
    inputs = MergeInput(experts, "delta", statistics={"fisher": zeros})
    expected = dense(average(MergeInput(experts, "delta"), ConvexSettings()).state)
    assert distance(fisher(inputs, FisherMergingSettings(normalise=normalise)).state, expected) < 1e-5


def test_folding_the_scale_divides_the_information_of_b() -> None:
    # B doubles and its gradient halves, so that its information is a quarter: weights of B's first entry 4/4 : 1
    factors = LoraFactors(torch.ones(1, 1), torch.ones(1, 1), 2.0)
    experts = {"x": LoraState({MODULE: factors}), "y": LoraState({MODULE: replace(factors, scale=1.0)})}
    a, b = factor_name(MODULE, "A"), factor_name(MODULE, "B")
    measured = {
        "x": {a: torch.ones(1, 1), b: torch.full((1, 1), 4.0)},
        "y": {a: torch.ones(1, 1), b: torch.ones(1, 1)},
    }
    settings = FisherMergingSettings(fold_scales=True, normalise=False)
    merged = fisher(MergeInput(experts, "factors", statistics={"fisher": measured}), settings).state
    assert float(merged.modules[MODULE].b) == pytest.approx((2.0 + 1.0) / 2)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="method.floor=0.0 must be greater than 0"):
        FisherMergingSettings(floor=0.0)
    with pytest.raises(ConfigError, match="method.fisher.samples=0: expected a number from 1"):
        FisherSettings(samples=0)
