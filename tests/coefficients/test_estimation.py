"""The whole chain from signals to coefficients, against an independent NumPy version of the published formulas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.coefficients import oracle
from tests.coefficients.signals import WIDTH, make_directions, make_signals, tensor_shapes

from esmerge.coefficients.estimation import GRANULARITIES, coefficients
from esmerge.coefficients.types import ESConfig
from esmerge.core.errors import ConfigError, InputError, NumberError
from esmerge.core.names import layer_of

LAYERS = 3
SHAPES = tensor_shapes(LAYERS)


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(GRANULARITIES),
    experts=st.integers(1, 5),
    modalities=st.integers(1, 3),
    layers=st.integers(1, 5),
    power=st.sampled_from([1.0, 2.0]),
    constants=st.tuples(
        st.sampled_from([0.3, 0.5, 2.0]), st.sampled_from([0.5, 1.0]), st.sampled_from([0.0, 0.5, 1.0])
    ),
    seed=st.integers(0, 10_000),
)
def test_agrees_with_the_oracle(
    name: str,
    experts: int,
    modalities: int,
    layers: int,
    power: float,
    constants: tuple[float, float, float],
    seed: int,
) -> None:
    temperature, tau, cross_weight = constants
    signals, shapes = make_signals(experts, modalities, layers, seed), tensor_shapes(layers)
    config = ESConfig(name, temperature, tau, projections=20, power=power, cross_weight=cross_weight)
    estimate = coefficients(signals, config, shapes, seed)

    backbone = np.stack([signals.backbone[kind][:].double().numpy() for kind in signals.modalities])
    responses = np.stack(
        [[signals.responses[i][t][:].double().numpy() for t in signals.modalities] for i in signals.experts]
    )
    directions = make_directions(WIDTH, 20, seed).numpy()
    alpha = oracle.alpha(backbone, responses, signals.own, directions, power, cross_weight, temperature)
    if name == "element":
        alpha = np.full_like(alpha, 1 / experts)
    layer = np.stack([estimate.layer[i].numpy() for i in signals.experts])
    np.testing.assert_allclose(layer, alpha, atol=2e-4)
    if name == "layer":
        assert estimate.elements == {}
        return
    for key in shapes:
        beta = oracle.beta(np.stack([signals.scores[i][key].double().numpy() for i in signals.experts]), tau)
        expected = oracle.joint(alpha[:, layer_of(key)], beta) if name == "joint" else beta
        np.testing.assert_allclose(
            np.stack([estimate.elements[i][key].numpy() for i in signals.experts]), expected, atol=2e-4
        )


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(GRANULARITIES),
    experts=st.integers(1, 6),
    modalities=st.integers(1, 3),
    layers=st.integers(1, 6),
    temperature=st.sampled_from([0.01, 0.5, 10.0]),
    data=st.data(),
)
def test_coefficients_are_shares_in_any_order_of_experts(
    name: str, experts: int, modalities: int, layers: int, temperature: float, data: st.DataObject
) -> None:
    signals, shapes = make_signals(experts, modalities, layers, seed=0), tensor_shapes(layers)
    order = data.draw(st.permutations(range(experts)))
    reordered = replace(
        signals,
        experts=tuple(signals.experts[i] for i in order),
        own=tuple(signals.own[i] for i in order),
    )
    config = ESConfig(name, temperature, tau=temperature, projections=8, resamples=2)
    tensors, permuted = (coefficients(given, config, shapes, 0).tensors() for given in (signals, reordered))
    assert set(tensors) == set(permuted)
    for key in ("layer", *([] if name == "layer" else shapes)):
        weights = torch.stack([tensors[f"{expert}.{key}"] for expert in signals.experts])
        assert (weights >= 0).all()
        torch.testing.assert_close(weights.sum(dim=0), torch.ones_like(weights[0]))
        torch.testing.assert_close(torch.stack([permuted[f"{expert}.{key}"] for expert in signals.experts]), weights)


def test_a_coefficient_file_names_experts_and_tensors() -> None:
    tensors = coefficients(make_signals(2, 2), ESConfig("joint", projections=4), SHAPES, 0).tensors()
    expected = {"expert0.layer", "expert1.layer"} | {f"expert{i}.{key}" for i in range(2) for key in SHAPES}
    assert set(tensors) == expected
    assert all(tensors[f"expert1.{key}"].shape == shape for key, shape in SHAPES.items())


def test_element_wise_coefficients_need_no_responses_and_layer_wise_no_scores() -> None:
    signals = make_signals(2, 1)
    bare = replace(signals, backbone={}, responses={})
    assert torch.equal(coefficients(bare, ESConfig("element"), SHAPES, 0).layer["expert0"], torch.full((LAYERS,), 0.5))
    unscored = replace(signals, scores={})
    assert coefficients(unscored, ESConfig("layer", projections=4), SHAPES, 0).elements == {}


def test_unknown_granularity_says_what_there_is() -> None:
    with pytest.raises(ConfigError, match="'neuron': expected one of layer, element, joint"):
        coefficients(make_signals(2, 1), ESConfig("neuron"), SHAPES, 0)


@pytest.mark.parametrize("field", ["temperature", "tau", "projections", "power"])
def test_constants_must_be_positive(field: str) -> None:
    with pytest.raises(ConfigError, match=f"granularity.{field}=0 must be greater than 0"):
        coefficients(make_signals(2, 1), replace(ESConfig("joint"), **{field: 0}), SHAPES, 0)


def test_every_missing_or_misshapen_score_is_listed() -> None:
    signals = make_signals(2, 1)
    missing, misshapen, not_finite = list(SHAPES)[:3]
    scores = {name: dict(tensors) for name, tensors in signals.scores.items()}
    del scores["expert0"][missing]
    scores["expert1"][misshapen] = torch.ones(1, 1)
    scores["expert1"][not_finite] = torch.full(SHAPES[not_finite], float("nan"))
    with pytest.raises(InputError) as error:
        coefficients(replace(signals, scores=scores), ESConfig("element"), SHAPES, 0)
    assert f"expert0: {missing} is missing" in str(error.value)
    assert f"expert1: {misshapen} has shape (1, 1), expected {SHAPES[misshapen]}" in str(error.value)
    assert f"expert1: {not_finite} holds NaN" in str(error.value)


def test_layers_that_were_not_probed_are_refused() -> None:
    deeper = {**SHAPES, "base_model.model.model.layers.7.mlp.up_proj.lora_A.weight": (2, WIDTH)}
    with pytest.raises(InputError, match="measured 3 layers, but the adapters reach layer 7"):
        coefficients(make_signals(2, 1), ESConfig("layer", projections=4), deeper, 0)


@pytest.mark.parametrize("name", GRANULARITIES)
def test_coefficients_that_are_no_numbers_are_refused_with_the_constants(name: str) -> None:
    signals = make_signals(3, 2)
    tiny = 1e-320  # the smallest numbers there are: dividing by one overflows
    with pytest.raises(NumberError, match=r"are NaN or infinite in float\d\d with .*tau=1e-320"):
        coefficients(signals, ESConfig(name, temperature=tiny, tau=tiny, projections=4), SHAPES, 0)


def test_distances_are_passed_on_with_their_increments() -> None:
    signals = make_signals(experts=2, modalities=3, layers=LAYERS, seed=1)
    config = ESConfig("layer", projections=20)
    measured = coefficients(signals, config, SHAPES, seed=1).distances
    assert measured is not None and measured.values.shape == (2, 3, LAYERS)
    rows = measured.rows()
    assert len(rows) == 2 * 3 * LAYERS and sum(bool(row["own"]) for row in rows) == 2 * LAYERS
    sums = [sum(float(str(row["increment"])) for row in rows[i : i + LAYERS]) for i in range(0, len(rows), LAYERS)]
    np.testing.assert_allclose(sums, [rows[i]["distance"] for i in range(LAYERS - 1, len(rows), LAYERS)])
    assert coefficients(signals, ESConfig("element"), SHAPES, seed=1).distances is None
