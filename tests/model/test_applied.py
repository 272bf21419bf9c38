"""Dense updates on a resident backbone: they act as written into the weights, and they leave no trace."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from tests import small
from torch import Tensor, nn
from torch.nn import functional

from esmerge.adapters.dense import DenseState
from esmerge.core.errors import AdapterError
from esmerge.core.lazy import LazyMapping
from esmerge.model.applied import Baked
from esmerge.model.attach import PREFIX, adapted_parameters
from esmerge.model.backbone import Backbone

IDS = torch.tensor([[2, 3, 6, 15, 7, 9], [2, 5, 6, 17, 18, 10]])


@pytest.fixture
def body() -> Backbone:
    return small.backbone()


def logits(body: Backbone) -> Tensor:
    with torch.no_grad():
        return body.model(IDS).logits


def dense(body: Backbone, seed: int) -> DenseState:
    """A random update of full rank for every adapted layer."""
    generator = torch.Generator().manual_seed(seed)
    modules = {
        PREFIX + path: 0.1 * torch.randn(layer.weight.shape, generator=generator)
        for path, layer in small.linear_layers(body).items()
    }
    return DenseState(modules, body.name)


def by_hand(state: DenseState) -> Tensor:
    """Logits with the updates written into the weights of another copy."""
    copy = small.backbone()
    with torch.no_grad():
        for module, update in state.modules.items():
            copy.model.get_submodule(module.removeprefix(PREFIX)).weight += update
    return logits(copy)


def weights(body: Backbone) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in body.model.named_parameters()}


@pytest.fixture(autouse=True)
def untouched(body: Backbone) -> Iterator[None]:
    """Whatever a test does, the weights are afterwards the same parameters with the same bits."""
    parameters, before = dict(body.model.named_parameters()), weights(body)
    yield
    after = dict(body.model.named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is parameters[name] and torch.equal(after[name], before[name]) for name in before)


def test_each_update_acts_as_if_written_into_the_weights(body: Backbone) -> None:
    states = {"one": dense(body, 1), "two": dense(body, 2)}
    baked, bare = Baked(body.model, states), logits(body)
    for name in ("two", "one", "two"):
        baked.switch(name)
        assert torch.equal(logits(body), by_hand(states[name]))
        assert not torch.allclose(logits(body), bare, atol=1e-2)
    baked.switch(None)
    assert torch.equal(logits(body), bare)


def test_half_precision_weights_come_back_bit_for_bit() -> None:
    body = small.backbone()
    body.model.to(torch.bfloat16)
    before, baked = weights(body), Baked(body.model, {"one": dense(body, 1)})
    baked.switch("one")
    path, update = next(iter(dense(body, 1).modules.items()))
    name = f"{path.removeprefix(PREFIX)}.weight"
    assert torch.equal(weights(body)[name], (before[name].float() + update).bfloat16())
    baked.switch(None)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(body).items())


def test_an_update_that_fails_midway_is_taken_off(body: Backbone) -> None:
    good = dense(body, 1)
    last = list(good.modules)[-1]

    def compute(module: str) -> Tensor:
        if module == last:
            raise RuntimeError("out of luck")
        return good.modules[module]

    baked, bare = Baked(body.model, {"bad": DenseState(LazyMapping(list(good.modules), compute))}), logits(body)
    with pytest.raises(RuntimeError, match="out of luck"):
        baked.switch("bad")
    assert torch.equal(logits(body), bare)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (f"{PREFIX}model.layers.9.mlp.down_proj", "the backbone has no .*layers.9"),
        (f"{PREFIX}model.norm", "model.norm is a LlamaRMSNorm in the backbone: only linear layers"),
        (f"{PREFIX}model.layers.0.mlp.down_proj", r"the update is \(5, 5\), the weight \(16, 24\)"),
    ],
    ids=["absent", "not linear", "shape"],
)
def test_updates_that_do_not_fit_are_refused_and_taken_off(body: Backbone, module: str, message: str) -> None:
    state = DenseState({**dense(body, 1).modules, module: torch.zeros(5, 5)})
    with pytest.raises(AdapterError, match=message):
        Baked(body.model, {"bad": state}).switch("bad")


class Packed(nn.Linear):
    """A linear layer whose weight is held in whole numbers, as quantised ones are, and read at a scale."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=False, device="meta")
        numbers = (layer.weight.data * 64).round().to(torch.int8)
        self.weight = nn.Parameter(numbers, requires_grad=False)

    def forward(self, values: Tensor) -> Tensor:
        return functional.linear(values, self.weight.to(values.dtype) / 64)


def packed() -> Backbone:
    body = small.backbone()
    for path, layer in small.linear_layers(body).items():
        parent, _, child = path.rpartition(".")
        setattr(body.model.get_submodule(parent), child, Packed(layer))
    return body


def test_updates_work_beside_quantised_weights() -> None:
    body, plain = packed(), small.backbone()
    for path, layer in small.linear_layers(plain).items():
        layer.weight.data = body.model.get_submodule(path).weight.data.float() / 64
    state, bare = dense(plain, 1), logits(body)
    with plain.attached({"one": state}) as activate:
        activate("one")
        expected = logits(plain)
    with body.attached({"one": state, "adapter": small.adapter(plain, 2)}) as activate:
        activate("one")
        assert torch.allclose(logits(body), expected, atol=1e-5) and not torch.equal(expected, bare)
        activate(None)
        assert torch.equal(logits(body), bare)
    assert torch.equal(logits(body), bare)


def test_an_update_of_another_shape_than_a_quantised_layer_is_refused() -> None:
    body = packed()
    module = f"{PREFIX}{next(iter(small.linear_layers(body)))}"
    with pytest.raises(AdapterError, match=r"the update is \(5, 5\), the layer \("):
        Baked(body.model, {"bad": DenseState({module: torch.zeros(5, 5)})}).switch("bad")


def test_there_are_no_gradients_with_respect_to_quantised_weights() -> None:
    body = packed()
    with body.attached({"one": small.adapter(small.backbone(), 2)}):
        assert adapted_parameters(body.model, "one", "factors")
        with pytest.raises(AdapterError, match="is quantised .torch.int8.*take merge_space=factors"):
            adapted_parameters(body.model, "one", "delta")


def test_dense_updates_and_adapters_take_turns_on_one_backbone(body: Backbone) -> None:
    adapter, other = small.adapter(body, 1), small.adapter(body, 2, rank=3)
    update, bare = dense(body, 3), logits(body)
    as_dense = DenseState({module: factors.delta() for module, factors in adapter.modules.items()})
    with body.attached({"adapter": adapter, "update": update, "same": as_dense, "other": other}) as activate:
        assert torch.equal(logits(body), bare)
        for name in ("update", "adapter", "same", "update", "other", None, "update"):
            activate(name)
            if name == "update":
                assert torch.allclose(logits(body), by_hand(update), atol=1e-5)
            elif name in ("adapter", "same"):
                assert torch.allclose(logits(body), by_hand(as_dense), atol=1e-5)
            elif name is None:
                assert torch.equal(logits(body), bare)
    assert torch.equal(logits(body), bare)


def test_a_backbone_with_both_is_restored_after_an_error(body: Backbone) -> None:
    states = {"adapter": small.adapter(body, 1), "update": dense(body, 2)}
    with pytest.raises(RuntimeError, match="in between"), body.attached(states) as activate:
        activate("update")
        raise RuntimeError("in between")
    assert not any("lora" in name for name, _ in body.model.named_parameters())
