"""What holds for every registered merge, in each of its spaces and granularities; new merges are found."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.merging.builders import (
    cases,
    default_settings,
    dense,
    distance,
    make_experts,
    make_input,
    tolerance,
)

from esmerge.adapters.dense import DenseState
from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.core.errors import AdapterError, ConfigError
from esmerge.merging.api import MERGES
from esmerge.merging.run import merge

CASES = cases()
MODULE = "base_model.model.model.layers.0.mlp.down_proj"
every_case = pytest.mark.parametrize(("name", "space", "granularity"), CASES)
quick = settings(max_examples=10, deadline=None)
shapes = st.fixed_dictionaries(
    {
        "count": st.integers(2, 5),
        "layers": st.integers(1, 3),
        "rank": st.integers(1, 4),
        "dtype": st.sampled_from([torch.float32, torch.bfloat16]),
        "seed": st.integers(0, 10_000),
    }
)


@every_case
@quick
@given(shape=shapes)
def test_every_tensor_is_merged_in_the_experts_dtype(name: str, space: str, granularity: str, shape: dict) -> None:
    experts = make_experts(**shape)
    merged = merge(name, make_input(name, space, granularity, experts), default_settings(name)).state
    first = next(iter(experts.values()))
    assert merged.base_model == "backbone"
    assert list(merged.modules) == list(first.modules)
    if isinstance(merged, DenseState):
        for module, update in merged.modules.items():
            assert update.shape == (first.modules[module].b.shape[0], first.modules[module].a.shape[1])
            assert update.dtype == shape["dtype"] and torch.isfinite(update).all()
        return
    for module, factors in merged.modules.items():
        assert factors.a.shape[1] == first.modules[module].a.shape[1]
        assert factors.b.shape[0] == first.modules[module].b.shape[0]
        assert factors.a.dtype == factors.b.dtype == shape["dtype"]
        assert torch.isfinite(factors.a).all() and torch.isfinite(factors.b).all()


@every_case
@quick
@given(shape=shapes, data=st.data())
def test_expert_order_does_not_matter(
    name: str, space: str, granularity: str, shape: dict, data: st.DataObject
) -> None:
    experts = make_experts(**shape)
    inputs = make_input(name, space, granularity, experts)
    order = data.draw(st.permutations(list(experts)))
    signals = inputs.signals and replace(
        inputs.signals,
        experts=tuple(order),
        own=tuple(inputs.signals.own[inputs.signals.experts.index(expert)] for expert in order),
    )
    moved = replace(inputs, experts={expert: experts[expert] for expert in order}, signals=signals)
    expected = dense(merge(name, inputs, default_settings(name)).state)
    assert distance(merge(name, moved, default_settings(name)).state, expected) < tolerance(shape["dtype"])


@every_case
@quick
@given(shape=shapes)
def test_coefficients_are_convex_at_every_entry(name: str, space: str, granularity: str, shape: dict) -> None:
    merged = merge(name, make_input(name, space, granularity, make_experts(**shape)), default_settings(name))
    if merged.coefficients is None:
        assert not MERGES.get(name).info.needs_signals, "a merge that weighs by signals must say with what"
        return
    groups: dict[str, list[torch.Tensor]] = {}
    for expert, tensor in merged.coefficients.layer.items():
        groups.setdefault("layer", []).append(tensor)
        for key, elements in merged.coefficients.elements.get(expert, {}).items():
            groups.setdefault(key, []).append(elements)
    for weights in groups.values():
        stacked = torch.stack(weights)
        assert len(stacked) == shape["count"] and (stacked >= 0).all()
        torch.testing.assert_close(stacked.sum(dim=0), torch.ones(stacked.shape[1:]), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "space", "granularity"), [c for c in CASES if MERGES.get(c[0]).info.convex])
@quick
@given(shape=shapes)
def test_identical_experts_return_themselves(name: str, space: str, granularity: str, shape: dict) -> None:
    one = next(iter(make_experts(**shape).values()))
    experts = {f"copy{i}": one for i in range(shape["count"])}
    merged = merge(name, make_input(name, space, granularity, experts), default_settings(name, scale=1.0))
    assert distance(merged.state, dense(one)) < tolerance(shape["dtype"])


def _layerwise(case: tuple[str, str, str | None]) -> bool:
    """Convex merges with one weight per expert and layer; one with a weight per entry says so by ``elementwise``."""
    info = MERGES.get(case[0]).info
    both = {"factors", "delta"} <= set(info.spaces)
    return both and info.convex and not info.elementwise and case[2] in (None, "layer")


@pytest.mark.parametrize(("name", "granularity"), sorted({(c[0], c[2] or "") for c in CASES if _layerwise(c)}))
@quick
@given(shape=shapes, scale=st.sampled_from([0.5, 1.0, 3.0]))
def test_spaces_agree_where_experts_share_a(name: str, granularity: str, shape: dict, scale: float) -> None:
    experts = make_experts(**shape, shared_a=True)
    by_space = [
        merge(name, make_input(name, space, granularity, experts), default_settings(name, scale=scale)).state
        for space in ("factors", "delta")
    ]
    assert distance(by_space[0], dense(by_space[1])) < tolerance(shape["dtype"])


@every_case
@quick
@given(shape=shapes, scale=st.sampled_from([0.25, 2.0, 3.0]))
def test_scale_multiplies_the_task_vector(name: str, space: str, granularity: str, shape: dict, scale: float) -> None:
    inputs = make_input(name, space, granularity, make_experts(**shape))
    if not hasattr(default_settings(name), "scale"):
        pytest.fail(f"merge {name} has no scale, so it cannot be compared at a matched scale")
    plain = dense(merge(name, inputs, default_settings(name, scale=1.0)).state)
    scaled = merge(name, inputs, default_settings(name, scale=scale)).state
    assert distance(scaled, {module: scale * delta for module, delta in plain.items()}) < tolerance(shape["dtype"])


@pytest.mark.parametrize(("name", "space", "granularity"), [c for c in CASES if c[1] == "delta"])
@quick
@given(shape=shapes, rank=st.integers(1, 3))
def test_a_rank_leaves_the_best_adapter_of_that_rank(
    name: str, space: str, granularity: str, shape: dict, rank: int
) -> None:
    inputs = make_input(name, space, granularity, make_experts(**{**shape, "dtype": torch.float32}))
    whole = dense(merge(name, inputs, default_settings(name)).state)
    short = merge(name, inputs, default_settings(name, rank=rank)).state
    assert isinstance(short, LoraState)
    for module, found in dense(short).items():
        assert short.modules[module].rank <= rank or short.modules[module].rank <= shape["rank"]
        values = torch.linalg.svdvals(whole[module])
        least = float(values[rank:].square().sum().sqrt())  # Eckart-Young
        assert float((found - whole[module]).norm()) <= least + 1e-4 * float(values.norm())


@every_case
def test_same_seed_same_merge_and_inputs_stay_as_they_were(name: str, space: str, granularity: str) -> None:
    experts = make_experts(3, seed=1)
    before = {expert: {key: t.clone() for key, t in state.tensors().items()} for expert, state in experts.items()}
    inputs = make_input(name, space, granularity, experts, seed=5)
    first, second = (merge(name, inputs, default_settings(name)).state.tensors() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert all(torch.equal(before[e][key], t) for e, state in experts.items() for key, t in state.tensors().items())


def _with(experts: dict[str, LoraState], name: str, factors: LoraFactors) -> dict[str, LoraState]:
    modules = {**experts[name].modules, MODULE: factors}
    return {**experts, name: replace(experts[name], modules=modules)}


@every_case
def test_experts_that_do_not_fit_are_refused_by_name(name: str, space: str, granularity: str) -> None:
    experts = make_experts(2)
    inputs, own = make_input(name, space, granularity, experts), default_settings(name)
    good = experts["expert1"].modules[MODULE]

    def refusal(changed: dict[str, LoraState]) -> str:
        with pytest.raises(AdapterError) as error:
            merge(name, replace(inputs, experts=changed), own)
        return str(error.value)

    hole = good.a.clone()
    hole[0, 0] = float("nan")
    assert f"'expert1' holds NaN or infinite values in {MODULE}.lora_A" in refusal(
        _with(experts, "expert1", replace(good, a=hole))
    )
    fewer = {module: f for module, f in experts["expert1"].modules.items() if module != MODULE}
    message = refusal({**experts, "expert1": replace(experts["expert1"], modules=fewer)})
    assert "'expert1'" in message and MODULE in message
    assert MODULE in refusal(_with(experts, "expert1", replace(good, b=good.b[:-1])))
    assert "at least two experts" in refusal({"expert1": experts["expert1"]})


@pytest.mark.parametrize(("name", "space", "granularity"), [c for c in CASES if c[1] == "factors"])
def test_factor_space_refuses_other_ranks_and_scales(name: str, space: str, granularity: str) -> None:
    experts = make_experts(2)
    good = experts["expert1"].modules[MODULE]
    inputs, own = make_input(name, space, granularity, experts), default_settings(name)
    with pytest.raises(AdapterError, match="'expert2' has LoRA scale 2, 'expert1' 3"):
        merge(name, replace(inputs, experts=_with(experts, "expert1", replace(good, scale=3.0))), own)
    narrow = replace(good, a=good.a[:1], b=good.b[:, :1])
    with pytest.raises(AdapterError, match="'expert2' has rank 2, 'expert1' rank 1"):
        merge(name, replace(inputs, experts=_with(experts, "expert1", narrow)), own)


@pytest.mark.parametrize(("name", "space", "granularity"), [c for c in CASES if c[1] == "delta"])
def test_delta_space_takes_any_ranks_and_scales(name: str, space: str, granularity: str) -> None:
    narrow, broad = make_experts(2, rank=1, scale=1.0), make_experts(2, rank=4, scale=0.5, seed=1)
    experts = {"expert2": narrow["expert2"], "expert1": broad["expert1"]}
    merged = merge(name, make_input(name, space, granularity, experts), default_settings(name)).state
    # the same updates, written with every scale folded into B, must give the same merge
    folded = {
        expert: replace(
            state, modules={module: LoraFactors(f.a, f.scale * f.b, 1.0) for module, f in state.modules.items()}
        )
        for expert, state in experts.items()
    }
    again = merge(name, make_input(name, space, granularity, folded), default_settings(name)).state
    assert distance(again, dense(merged)) < tolerance(torch.float32)


@pytest.mark.parametrize("name", MERGES.names())
def test_a_space_that_a_merge_lacks_is_refused(name: str) -> None:
    spaces = MERGES.get(name).info.spaces
    for space in {"factors", "delta", "spherical"} - set(spaces):
        inputs = replace(make_input(name, spaces[0], None, make_experts(2)), space=space)
        with pytest.raises(ConfigError, match=f"{name}' has no merge_space={space}: it has {', '.join(spaces)}"):
            merge(name, inputs, default_settings(name))


@pytest.mark.parametrize("name", MERGES.names())
def test_registered_facts_are_complete(name: str) -> None:
    info = MERGES.get(name).info
    assert info.title and info.source
    assert set(info.spaces) <= {"factors", "delta"} and info.spaces
    assert isinstance(info.convex, bool) and isinstance(info.needs_signals, bool)
