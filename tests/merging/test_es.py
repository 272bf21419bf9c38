"""ES-Merging by given coefficients, and what its controls change and leave alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.merging.builders import dense, distance, make_experts, make_input

from esmerge.adapters.dense import DenseState
from esmerge.adapters.lora import delta_name
from esmerge.coefficients.estimation import coefficients
from esmerge.coefficients.types import Coefficients
from esmerge.core.errors import ConfigError
from esmerge.core.names import layer_of
from esmerge.merging.ops.es_family import measure, merge_by
from esmerge.merging.ops.settings import ConvexSettings
from esmerge.merging.ops.space import dense_delta, tensor_shapes
from esmerge.merging.run import merge

SPACES = ("factors", "delta")
PLAIN = ConvexSettings()


def one_hot(experts: dict, space: str, chosen: str, elements: bool) -> Coefficients:
    shapes = tensor_shapes(experts[chosen], space)
    depth = 1 + max(layer_of(name) for name in shapes)
    value = {name: float(name == chosen) for name in experts}
    return Coefficients(
        {name: torch.full((depth,), value[name]) for name in experts},
        {name: {key: torch.full(shape, value[name]) for key, shape in shapes.items()} for name in experts}
        if elements
        else {},
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("elements", [False, True])
@pytest.mark.parametrize("space", SPACES)
def test_one_hot_coefficients_return_that_expert(space: str, elements: bool, count: int, dtype: torch.dtype) -> None:
    experts = make_experts(count, dtype=dtype)
    for chosen, state in experts.items():
        inputs = make_input("es", space, "layer", experts)
        merged = merge_by(inputs, PLAIN, one_hot(experts, space, chosen, elements)).state
        if space == "delta" and elements:  # dense, so re-factored by SVD
            assert distance(merged, dense(state)) < (2e-2 if dtype == torch.bfloat16 else 2e-6)
            continue
        expected = state.tensors()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in merged.tensors().items())
        assert all(merged.modules[module].scale == factors.scale for module, factors in state.modules.items())


@pytest.mark.parametrize("granularity", ["layer", "element", "joint"])
def test_factor_space_by_its_definition(granularity: str) -> None:
    experts = make_experts(3)
    inputs = make_input("es", "factors", granularity, experts)
    merged = merge("es", inputs, PLAIN)
    weights = coefficients(
        inputs.signals, inputs.granularity, tensor_shapes(experts["expert1"], "factors"), inputs.seed
    )
    for key, tensor in merged.state.tensors().items():
        parts = [
            (weights.elements[name][key] if weights.elements else weights.layer[name][layer_of(key)])
            * state.tensors()[key]
            for name, state in experts.items()
        ]
        torch.testing.assert_close(tensor, torch.stack(parts).sum(dim=0))


@pytest.mark.parametrize("granularity", ["layer", "element", "joint"])
def test_delta_space_by_its_definition(granularity: str) -> None:
    experts = make_experts(3)
    inputs = make_input("es", "delta", granularity, experts)
    merged = merge("es", inputs, PLAIN)
    weights = merged.coefficients
    expected = {}
    for module in experts["expert1"].modules:
        key = delta_name(module)
        expected[module] = sum(
            (weights.elements[name][key] if weights.elements else weights.layer[name][layer_of(key)])
            * dense_delta(state.modules[module])
            for name, state in experts.items()
        )
    assert distance(merged.state, expected) < 1e-5


def test_layer_wise_merging_in_delta_space_stays_low_rank() -> None:
    layer = merge("es", make_input("es", "delta", "layer", make_experts(2, rank=1)), PLAIN).state
    assert {factors.rank for factors in layer.modules.values()} == {2} and layer.notes == {}
    element = merge("es", make_input("es", "delta", "element", make_experts(2, rank=1)), PLAIN).state
    assert isinstance(element, DenseState)
    assert element.notes == {}
    short = merge("es", make_input("es", "delta", "element", make_experts(2, rank=1)), ConvexSettings(rank=2)).state
    assert {factors.rank for factors in short.modules.values()} == {2}
    assert short.notes["svd_relative_residual"] == pytest.approx(_pooled(short, element), rel=1e-3)


def _pooled(state, expected) -> float:
    residual = sum(float((dense(state)[m] - delta).square().sum()) for m, delta in dense(expected).items())
    return (residual / sum(float(delta.square().sum()) for delta in dense(expected).values())) ** 0.5


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("granularity", ["element", "joint"])
def test_shuffling_moves_all_experts_alike_within_each_tensor(space: str, granularity: str) -> None:
    inputs = make_input("es_shuffled", space, granularity, make_experts(3))
    before, after = measure(inputs, PLAIN), merge("es_shuffled", inputs, PLAIN).coefficients
    for key in before.elements["expert1"]:
        old = torch.stack([before.elements[name][key].flatten() for name in inputs.experts])
        new = torch.stack([after.elements[name][key].flatten() for name in inputs.experts])
        assert not torch.equal(old, new), f"{key} was not shuffled"
        # the columns (one entry's weights over the experts) are the same set, in another order
        assert sorted(map(tuple, old.T.tolist())) == sorted(map(tuple, new.T.tolist()))


def test_layer_coefficients_are_shuffled_over_layers() -> None:
    inputs = make_input("es_shuffled", "factors", "layer", make_experts(2, layers=3))
    before = measure(inputs, PLAIN)
    orders = set()
    for seed in range(12):
        # the probe's random directions move with the seed too, so compare with that seed's own coefficients
        measured = measure(replace(inputs, seed=seed), PLAIN)
        after = merge("es_shuffled", replace(inputs, seed=seed), PLAIN).coefficients
        assert sorted(measured.layer["expert1"].tolist()) == sorted(after.layer["expert1"].tolist())
        orders.add(tuple(measured.layer["expert1"].tolist().index(value) for value in after.layer["expert1"].tolist()))
    assert before.elements == {} and len(orders) > 1


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("count", [2, 4])
def test_permuting_gives_every_expert_another_ones_coefficients(space: str, count: int) -> None:
    for granularity in ("element", "joint", "layer"):
        inputs = make_input("es_permuted", space, granularity, make_experts(count))
        before, after = measure(inputs, PLAIN), merge("es_permuted", inputs, PLAIN).coefficients
        for old, new in _weight_groups(before, after):
            source = [[i for i, t in enumerate(old) if torch.equal(t, weights)] for weights in new]
            assert sorted(sum(source, [])) == list(range(count)), "not a permutation"
            assert all(i not in matches for i, matches in enumerate(source)), "an expert kept its own coefficients"


def _weight_groups(before: Coefficients, after: Coefficients):
    """(old weights by expert, new weights by expert) of each tensor, or of each layer."""
    names = list(before.layer)
    if before.elements:
        for key in before.elements[names[0]]:
            yield [before.elements[n][key] for n in names], [after.elements[n][key] for n in names]
        return
    for layer in range(len(before.layer[names[0]])):
        yield [before.layer[n][layer] for n in names], [after.layer[n][layer] for n in names]


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("granularity", ["element", "joint"])
def test_magnitude_is_es_with_magnitudes_for_scores(space: str, granularity: str) -> None:
    experts = make_experts(2)
    inputs = make_input("es_magnitude", space, granularity, experts)
    scores = {
        name: {key: t.abs() for key, t in state.tensors().items()}
        if space == "factors"
        else {delta_name(m): delta.abs().float() for m, delta in dense(state).items()}
        for name, state in experts.items()
    }
    as_scores = replace(inputs, signals=replace(inputs.signals, scores=scores))
    expected = dense(merge("es", as_scores, PLAIN).state)
    assert distance(merge("es_magnitude", inputs, PLAIN).state, expected) < 1e-5
    unscored = replace(inputs, signals=replace(inputs.signals, scores={}))
    assert distance(merge("es_magnitude", unscored, PLAIN).state, expected) < 1e-5


def test_noise_ignores_the_measured_responses_and_keeps_the_scores() -> None:
    experts = make_experts(2)
    inputs = make_input("es_noise", "factors", "joint", experts)
    scaled_responses = {
        name: {k: v * 7 + 1 for k, v in responses.items()} for name, responses in inputs.signals.responses.items()
    }
    other = replace(inputs, signals=replace(inputs.signals, responses=scaled_responses))
    first, second = merge("es_noise", inputs, PLAIN), merge("es_noise", other, PLAIN)
    assert all(torch.equal(first.coefficients.layer[n], second.coefficients.layer[n]) for n in experts)
    assert not torch.equal(first.coefficients.layer["expert1"], measure(inputs, PLAIN).layer["expert1"])
    # joint = alpha * beta, normalised: dividing alpha out again leaves the measured element-wise coefficients
    beta = measure(replace(inputs, granularity=replace(inputs.granularity, name="element")), PLAIN).elements
    for key in beta["expert1"]:
        ratio = torch.stack([first.coefficients.elements[n][key] for n in experts])
        ratio = ratio / torch.stack([first.coefficients.layer[n][layer_of(key)] for n in experts])[:, None, None]
        element_coefficients = ratio / ratio.sum(dim=0)
        torch.testing.assert_close(
            element_coefficients, torch.stack([beta[n][key] for n in experts]), rtol=1e-3, atol=1e-5
        )


@pytest.mark.parametrize(("name", "granularity"), [("es_magnitude", "layer"), ("es_noise", "element")])
def test_a_control_that_would_change_nothing_is_refused(name: str, granularity: str) -> None:
    inputs = make_input(name, "factors", granularity, make_experts(2))
    with pytest.raises(ConfigError, match=f"'{name}' has no granularity={granularity}"):
        merge(name, inputs, PLAIN)


def test_signals_of_other_experts_are_refused() -> None:
    inputs = make_input("es", "factors", "layer", make_experts(2))
    renamed = replace(inputs, experts={"molecule": inputs.experts["expert1"], "protein": inputs.experts["expert2"]})
    with pytest.raises(ConfigError, match="measured expert2, expert1, but the merge is of molecule, protein"):
        merge("es", renamed, PLAIN)
