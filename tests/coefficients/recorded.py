"""Three tiny experts from recorded numbers, and what the functions of the ES-Merging authors' code made of them.

``authors_golden.json`` holds inputs and outputs. Its outputs were recorded from their published functions
(github.com/WonbinLee067/es-merging): hidden states captured by their hooks, distances along 50,000 directions, scores
with the last norm left out of what is compared (theirs reads the normed output there, and the published formula does
not), and state dicts merged with the coefficients that this project exported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tests import small
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from esmerge.adapters.lora import LoraFactors, LoraState, factor_name
from esmerge.core.prompts import Entity, Prompt
from esmerge.model.backbone import Backbone
from esmerge.specialists.specialists import PromptStyle, Specialists

FILE = Path(__file__).parent / "authors_golden.json"
EXPERTS = ("mol", "prot", "cell")
HIDDEN, LAYERS, SAMPLES, BATCH, SCALE = 4, 4, 5, 2, 4.0


@dataclass(frozen=True)
class RecordedEncoder:
    """Soft tokens by value."""

    modality: str
    tokens: Mapping[str, Tensor]

    def encode(self, values: Sequence[str]) -> list[Tensor]:
        return [self.tokens[value] for value in values]


def recorded() -> dict[str, Any]:
    """The file's content; lists of numbers are tensors."""
    return _tensors(json.loads(FILE.read_text(encoding="utf-8")))


def _tensors(node: Any) -> Any:
    return {key: _tensors(value) for key, value in node.items()} if isinstance(node, dict) else torch.tensor(node)


def skeleton() -> LlamaForCausalLM:
    """The backbone without its weights."""
    config = LlamaConfig(
        vocab_size=len(small.WORDS) + len(small.GENES),
        hidden_size=HIDDEN,
        intermediate_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval().requires_grad_(False)


def specialists(inputs: Mapping[str, Any]) -> Specialists:
    """The experts; norms weigh 1 everywhere."""
    model = skeleton()
    weights = {name: torch.ones_like(tensor) for name, tensor in model.state_dict().items()}
    model.load_state_dict({**weights, **inputs["backbone"], "lm_head.weight": inputs["backbone"][EMBEDDINGS]})
    modules = sorted({name.rpartition(".lora_")[0] for name in inputs["experts"][EXPERTS[0]]})
    adapters = {
        expert: LoraState(
            {m: LoraFactors(factors[factor_name(m, "A")], factors[factor_name(m, "B")], SCALE) for m in modules}, "tiny"
        )
        for expert, factors in inputs["experts"].items()
    }
    return Specialists(
        name="recorded",
        backbone=Backbone(model, small.tokenizer(), "tiny", "tiny"),
        adapters={expert: adapters[expert] for expert in EXPERTS},
        expert_modality={expert: expert for expert in EXPERTS},
        encoders={expert: RecordedEncoder(expert, inputs["soft_tokens"][expert]) for expert in EXPERTS},
        language="textbook",
        prompt_style=PromptStyle(dict.fromkeys(EXPERTS, ""), ""),
        pool={},
        fingerprint="recorded",
    )


EMBEDDINGS = "model.embed_tokens.weight"


def prompts() -> list[Prompt]:
    """One entity of each modality behind a word; values are the numbers of the prompts."""
    words = {"mol": "drug", "prot": " protein", "cell": " cell"}
    return [
        tuple(part for expert in EXPERTS for part in (words[expert], Entity(expert, str(number))))
        for number in range(SAMPLES)
    ]
