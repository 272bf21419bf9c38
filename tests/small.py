"""A random backbone with a handful of words, soft-token encoders and adapters: specialists without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.model.attach import PREFIX
from esmerge.model.backbone import Backbone
from esmerge.specialists.specialists import PromptStyle, Specialists

WORDS = ("<pad>", "<unk>", "<s>", "drug", "protein", "cell", ":", ";", "?", "no", "yes", "maybe", "not", "at", "all")
GENES = ("ALB", "TTR", "KRT5", "KRT14", "GFAP", "SOX2", "CD4", "CD19")
MODALITIES = ("molecule", "protein", "cell")
POOL = {
    "molecule": ("CCO", "c1ccccc1", "CC(=O)O", "CCN"),
    "protein": ("MKTAY", "GAVLI", "WWYHP"),
    "cell": ("ALB TTR", "KRT5 KRT14 GFAP", "SOX2 CD4"),
}
TARGETS = ("q_proj", "o_proj", "down_proj")


@dataclass(frozen=True)
class TableEncoder:
    """Fixed random soft tokens for each value; their number depends on the value's length, as a protein's does."""

    modality: str
    hidden: int

    def encode(self, values: Sequence[str]) -> list[Tensor]:
        return [
            torch.randn(2 + len(value) % 3, self.hidden, generator=torch.Generator().manual_seed(sum(map(ord, value))))
            for value in values
        ]


def tokenizer(start: bool = True) -> PreTrainedTokenizerFast:
    """Words separated by blanks; with or without a start token."""
    words = {word: index for index, word in enumerate((*WORDS, *GENES))}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"bos_token": "<s>"} if start else {}
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", pad_token="<pad>", **special)


def backbone(layers: int = 3, hidden: int = 16, seed: int = 0, start: bool = True) -> Backbone:
    """A Llama with weights large enough that every layer changes its input visibly."""
    config = LlamaConfig(
        vocab_size=len(WORDS) + len(GENES),
        hidden_size=hidden,
        intermediate_size=24,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.2,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).eval().requires_grad_(False)
    return Backbone(model, tokenizer(start), "small", f"small-{layers}-{hidden}-{seed}")


def linear_layers(body: Backbone, targets: Sequence[str] = TARGETS) -> dict[str, torch.nn.Linear]:
    """Path -> layer of every linear layer whose name ends in one of ``targets``."""
    return {
        name: module
        for name, module in body.model.named_modules()
        if isinstance(module, torch.nn.Linear) and name.endswith(tuple(targets))
    }


def adapter(
    body: Backbone, seed: int, rank: int = 2, scale: float = 1.5, ranks: Mapping[str, int] | None = None
) -> LoraState:
    """Random factors for ``TARGETS``; ``ranks`` gives single modules another rank."""
    generator = torch.Generator().manual_seed(seed)
    modules = {}
    for path, layer in linear_layers(body).items():
        r = (ranks or {}).get(path, rank)
        a = torch.randn(r, layer.in_features, generator=generator) * 0.3
        b = torch.randn(layer.out_features, r, generator=generator) * 0.3
        modules[PREFIX + path] = LoraFactors(a, b, scale)
    return LoraState(modules, body.name)


def specialists(experts: Mapping[str, str], layers: int = 3, seed: int = 0) -> Specialists:
    """Random adapters: expert -> own modality. Molecules and proteins are perceived, cells read as text."""
    body = backbone(layers, seed=seed)
    hidden = body.model.config.hidden_size
    return Specialists(
        name="small",
        backbone=body,
        adapters={name: adapter(body, 10 + seed + index) for index, name in enumerate(experts)},
        expert_modality=dict(experts),
        encoders={name: TableEncoder(name, hidden) for name in ("molecule", "protein")},
        language="textbook",
        prompt_style=PromptStyle({"molecule": "drug : ", "protein": "protein : ", "cell": "cell : "}, " ; "),
        pool=POOL,
        fingerprint=f"small-{seed}-{sorted(experts)}",
    )
