"""Other forms of linear maps, put into that of ``nn.Linear``: the model computes what it did."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MixtralConfig, Qwen3MoeConfig

from esmerge.model.linear_layers import (
    ExpertLayers,
    conv1d_paths,
    linear_layers,
    replace_conv1d,
    routed_layers,
    routes_positions,
    separate_experts,
)

IDS = torch.tensor([[2, 3, 6, 5, 7, 9], [2, 5, 6, 1, 8, 10]])
SIZES: dict[str, Any] = {"vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
MIXTURES = {
    "mixtral": MixtralConfig(**SIZES, intermediate_size=12, num_key_value_heads=1, num_local_experts=4),
    "qwen3_moe": Qwen3MoeConfig(
        **SIZES, moe_intermediate_size=12, num_key_value_heads=1, num_experts=4, num_experts_per_tok=2
    ),
}
NAMES = {"mixtral": {"w1", "w2", "w3"}, "qwen3_moe": {"gate_proj", "up_proj", "down_proj"}}


def random_model(config: Any) -> Any:
    config.initializer_range = 0.5
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)


def test_conv1d_becomes_linear() -> None:
    model = random_model(GPT2Config(vocab_size=11, n_embd=8, n_layer=2, n_head=2, n_positions=16))
    expected, paths = model(IDS).logits, conv1d_paths(model)
    assert len(paths) == 8 and not paths & set(linear_layers(model))
    replace_conv1d(model)
    assert paths < set(linear_layers(model)) and not conv1d_paths(model)
    torch.testing.assert_close(model(IDS).logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", list(MIXTURES))
def test_experts_that_stand_alone_answer_as_the_stack_did(kind: str) -> None:
    model = random_model(MIXTURES[kind])
    expected, stack = model(IDS).logits, model.model.layers[1].mlp.experts.gate_up_proj
    count = sum(parameter.numel() for parameter in model.parameters())
    separate_experts(model, ["model.layers.1.mlp.experts.0.any"])
    ((path, mixture),) = routed_layers(model)
    assert path == "model.layers.1.mlp.experts" and set(mixture.layer_names()) == NAMES[kind]
    torch.testing.assert_close(model(IDS).logits, expected, rtol=1e-4, atol=1e-5)
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    first = mixture.experts()[0][mixture.names.gate].weight
    assert first.data_ptr() == stack.data_ptr(), "the weights are not copied"
    assert routes_positions(model.model.layers)


def test_positions_of_an_expert() -> None:
    experts, inputs = ExpertLayers(), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert torch.equal(experts.spread(inputs), inputs)
    experts.positions = torch.tensor([3, 0]), 4
    assert experts.spread(inputs).tolist() == [[3.0, 4.0], [0.0, 0.0], [0.0, 0.0], [1.0, 2.0]]


def test_a_dense_model_stays_as_it_is() -> None:
    model = random_model(LlamaConfig(**SIZES, intermediate_size=12))
    modules = dict(model.named_modules())
    replace_conv1d(model)
    separate_experts(model)
    assert dict(model.named_modules()) == modules and not routes_positions(model.model.layers)
