"""Random Llamas and probes at the shapes that are checked, made on the device in seconds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from benchmarks.speed.models import number_tokenizer
from benchmarks.speed.probing import Case
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.core.prompts import Entity, Prompt
from esmerge.model.attach import PREFIX
from esmerge.model.backbone import Backbone
from esmerge.specialists.specialists import PromptStyle, Specialists


@dataclass(frozen=True)
class Shape:
    """Of a Llama."""

    layers: int
    hidden: int
    heads: int
    key_value_heads: int
    intermediate: int
    words: int


LLAMA_8B = Shape(32, 4096, 32, 8, 14336, 128256)
SMALL = Shape(2, 64, 4, 2, 96, 300)
RANK = 8


def random_llama(shape: Shape, device: str, dtype: torch.dtype, seed: int = 0, spread: float = 0.02) -> Backbone:
    """A Llama with random weights, drawn on the device, and a tokenizer whose words are numbers.

    Args:
        spread: standard deviation of the weights.
    """
    config = LlamaConfig(
        vocab_size=shape.words,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        max_position_embeddings=8192,
        tie_word_embeddings=False,
        initializer_range=spread,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    torch.manual_seed(seed)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return Backbone(model.eval().requires_grad_(False), number_tokenizer(shape.words), "random", f"random-{seed}")


def random_adapter(body: Backbone, seed: int, rank: int = RANK, size: float = 0.02) -> LoraState:
    """Normal factors for every linear layer of the decoder layers, on the model's device and in its number format."""
    device, dtype = body.device, body.model.dtype
    draw = torch.Generator(device).manual_seed(seed)
    modules = {}
    for path, layer in body.model.named_modules():
        if isinstance(layer, nn.Linear) and ".layers." in path:
            shapes = (rank, layer.in_features), (layer.out_features, rank)
            a, b = (torch.randn(*shape, generator=draw, device=device).mul_(size).to(dtype) for shape in shapes)
            modules[PREFIX + path] = LoraFactors(a, b, 2.0)
    return LoraState(modules, "random")


def random_case(body: Backbone, experts: int, probes: int, length: int, rank: int = RANK, size: float = 0.02) -> Case:
    """Experts with a modality each, and prompts of random words that hold all modalities."""
    names = [f"expert{number}" for number in range(experts)]
    specialists = Specialists(
        name="random", backbone=body,
        adapters={name: random_adapter(body, number, rank, size) for number, name in enumerate(names)},
        expert_modality={name: name for name in names}, encoders={}, language="none",
        prompt_style=PromptStyle({}, ""), pool={}, fingerprint="random",
    )  # fmt: skip
    draw = torch.Generator().manual_seed(0)

    def prompt() -> Prompt:
        numbers = torch.randint(1, body.model.config.vocab_size, (experts, length // experts), generator=draw).tolist()
        return tuple(Entity(name, " ".join(map(str, row))) for name, row in zip(names, numbers, strict=True))

    return Case(specialists, [prompt() for _ in range(probes)])


def weight_bytes(body: Backbone) -> int:
    """Of the backbone."""
    return sum(parameter.numel() * parameter.element_size() for parameter in body.model.parameters())


def adapter_bytes(case: Case) -> int:
    """Of all experts' factors."""
    states = case.specialists.adapters.values()
    return sum(tensor.numel() * tensor.element_size() for state in states for tensor in state.tensors().values())
