from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from tests import small
from torch import Tensor

from esmerge.adapters.lora import LoraFactors, LoraState, delta_name, factor_name
from esmerge.core.errors import AdapterError
from esmerge.model.attach import PREFIX, adapted_parameters, adapter_digest, attach, detach, extract_lora, init_lora
from esmerge.model.backbone import Backbone

IDS = torch.tensor([[2, 3, 6, 15, 7, 9], [2, 5, 6, 17, 18, 10]])


@pytest.fixture
def body() -> Backbone:
    return small.backbone()


def logits(body: Backbone) -> Tensor:
    with torch.no_grad():
        return body.model(IDS).logits


def by_hand(body: Backbone, state: LoraState) -> Tensor:
    """Logits with W + scale * B @ A written into the weights."""
    copy = small.backbone()
    with torch.no_grad():
        for module, f in state.modules.items():
            layer = copy.model.get_submodule(module.removeprefix(PREFIX))
            layer.weight += f.scale * torch.einsum("or,ri->oi", f.b, f.a)
    return logits(copy)


def test_each_active_adapter_gives_the_logits_of_merged_weights(body: Backbone) -> None:
    states = {"one": small.adapter(body, 1), "two": small.adapter(body, 2, rank=3, scale=0.25)}
    with body.attached(states) as activate:
        for name in ("two", "one", "two"):
            activate(name)
            assert torch.allclose(logits(body), by_hand(body, states[name]), atol=1e-5)
            assert not torch.allclose(logits(body), logits(small.backbone()), atol=1e-2)


def test_ranks_may_differ_between_modules(body: Backbone) -> None:
    paths = list(small.linear_layers(body))
    state = small.adapter(body, 3, ranks={paths[0]: 5, paths[4]: 1})
    assert sorted({f.rank for f in state.modules.values()}) == [1, 2, 5]
    with body.attached({"mixed": state}) as activate:
        activate("mixed")
        assert torch.allclose(logits(body), by_hand(body, state), atol=1e-5)


def test_scales_may_differ_between_modules(body: Backbone) -> None:
    plain = small.adapter(body, 3)
    modules: Mapping[str, LoraFactors] = {
        module: LoraFactors(f.a, f.b, 0.5 * index) for index, (module, f) in enumerate(plain.modules.items())
    }
    state = LoraState(modules)
    with body.attached({"mixed": state}) as activate:
        activate("mixed")
        assert torch.allclose(logits(body), by_hand(body, state), atol=1e-5)


def test_no_active_adapter_is_the_bare_backbone_bit_for_bit(body: Backbone) -> None:
    bare = logits(body)
    with body.attached({"one": small.adapter(body, 1), "two": small.adapter(body, 2)}) as activate:
        assert torch.equal(logits(body), bare), "attached adapters start inactive"
        activate("one")
        activate(None)
        assert torch.equal(logits(body), bare)
    assert torch.equal(logits(body), bare)


def test_detaching_restores_everything(body: Backbone) -> None:
    names, attributes = [n for n, _ in body.model.named_modules()], set(vars(body.model))
    weights = {name: p for name, p in body.model.named_parameters()}
    attach(body.model, {"one": small.adapter(body, 1)})
    assert [n for n, _ in body.model.named_modules()] != names
    detach(body.model)
    assert [n for n, _ in body.model.named_modules()] == names
    assert set(vars(body.model)) == attributes
    after = dict(body.model.named_parameters())
    assert list(after) == list(weights) and all(after[name] is weight for name, weight in weights.items())


def test_a_backbone_is_restored_after_an_error_inside(body: Backbone) -> None:
    bare = logits(body)
    with pytest.raises(RuntimeError, match="in between"), body.attached({"one": small.adapter(body, 1)}) as activate:
        activate("one")
        raise RuntimeError("in between")
    assert torch.equal(logits(body), bare)
    assert not any("lora" in name for name, _ in body.model.named_parameters())


def test_an_adapter_of_another_backbone_is_refused_by_name_and_taken_off(body: Backbone) -> None:
    deeper = small.adapter(small.backbone(layers=4), 1)
    message = r"adapter 'deep' adapts .*layers\.3.*no such"
    with pytest.raises(AdapterError, match=message), body.attached({"deep": deeper}):
        pass
    assert not any("lora" in name for name, _ in body.model.named_parameters())
    wider = small.adapter(small.backbone(hidden=32), 1)
    with pytest.raises(AdapterError, match=r"adapter 'wide'.*\(2, 32\)"), body.attached({"wide": wider}):
        pass
    assert not any("lora" in name for name, _ in body.model.named_parameters())


def test_what_is_read_back_is_what_was_attached(body: Backbone) -> None:
    state = small.adapter(body, 1)
    with body.attached({"one": state}):
        extracted = extract_lora(body.model, "one", "small")
    assert set(extracted.modules) == set(state.modules)
    for module, f in state.modules.items():
        factors = extracted.modules[module]
        assert torch.equal(factors.a, f.a) and torch.equal(factors.b, f.b) and factors.scale == f.scale


def test_a_fresh_adapter_changes_nothing_yet_and_comes_from_its_seed(body: Backbone) -> None:
    bare, states = logits(body), []
    for seed in (0, 0, 1):
        before = torch.random.get_rng_state()
        parameters = init_lora(body.model, "new", 4, 8.0, ("q_proj", "up_proj"), seed)
        assert torch.equal(torch.random.get_rng_state(), before), "the global stream is not touched"
        assert torch.equal(logits(body), bare)
        assert all(p.requires_grad for p in parameters) and len(parameters) == 2 * 2 * 3
        assert sum(p.requires_grad for p in body.model.parameters()) == len(parameters)
        states.append(extract_lora(body.model, "new", "small"))
        detach(body.model)
    assert {f.scale for f in states[0].modules.values()} == {2.0}
    assert adapter_digest(states[0]) == adapter_digest(states[1]) != adapter_digest(states[2])


def test_the_digest_sees_the_scale(body: Backbone) -> None:
    assert adapter_digest(small.adapter(body, 1, scale=1.0)) != adapter_digest(small.adapter(body, 1, scale=2.0))


@pytest.mark.parametrize("space", ["factors", "delta"])
def test_adapted_parameters_are_filed_by_layer_under_the_names_of_coefficients(body: Backbone, space: str) -> None:
    state = small.adapter(body, 1)
    with body.attached({"one": state, "two": small.adapter(body, 2)}):
        parameters = adapted_parameters(body.model, "one", space)
        assert sorted(parameters) == [0, 1, 2]
        for layer, entries in parameters.items():
            modules = [module for module in state.modules if f".layers.{layer}." in module]
            if space == "delta":
                assert set(entries) == {delta_name(module) for module in modules}
                continue
            assert set(entries) == {factor_name(module, letter) for module in modules for letter in "AB"}
            assert all(torch.equal(entries[factor_name(m, "A")], state.modules[m].a) for m in modules)


def test_a_new_adapter_is_trained_in_float32_and_read_in_the_format_of_the_backbone(body: Backbone) -> None:
    body.model.to(torch.bfloat16)
    parameters = init_lora(body.model, "new", 2, 4.0, ["q_proj", "down_proj"], 0)
    assert parameters and all(parameter.dtype == torch.float32 for parameter in parameters)
    dtypes = []
    layers = [module for name, module in body.model.named_modules() if name.endswith("lora_A.expert_new")]
    for layer in layers:
        layer.register_forward_hook(lambda _, inputs, output: dtypes.append((inputs[0].dtype, output.dtype)))
    body.model(IDS).logits.float().square().mean().backward()
    assert set(dtypes) == {(torch.bfloat16, torch.bfloat16)} and len(dtypes) == len(layers)
    assert any(parameter.grad is not None and bool(parameter.grad.any()) for parameter in parameters)
    with torch.no_grad():
        for parameter in parameters:
            parameter.fill_(1.0 + 2**-12)  # no bfloat16 number
    state = extract_lora(body.model, "new", "body")
    assert all(bool((f.a == 1.0 + 2**-12).all() and (f.b == 1.0 + 2**-12).all()) for f in state.modules.values())
    detach(body.model)
    assert not any("parametrizations" in name for name, _ in body.model.named_parameters())
