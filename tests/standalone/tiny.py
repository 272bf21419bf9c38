"""Tiny backbones of several families with tokenizers like theirs, and adapters that PEFT itself trains on them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

TEXTS = {
    "mol": ["CCO", "c1ccccc1O", "CC(=O)Oc1ccccc1C(=O)O", "CCN(CC)CC"],
    "prot": ["MKTAYIAKQR", "GAVLIPFMW", "WWYHPKRDE", "MSTNPKPQRK"],
    "cell": ["ALB TTR APOA1", "KRT5 KRT14", "GFAP AQP4 SLC1A2", "CD3D CD3E IL7R"],
}
WIDTHS: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
GROUPED = {**WIDTHS, "num_key_value_heads": 1, "head_dim": 8}
CONFIGS = {
    "llama": ("LlamaConfig", GROUPED),
    "qwen2": ("Qwen2Config", {**WIDTHS, "num_key_value_heads": 1}),
    "qwen3": ("Qwen3Config", GROUPED),
    "mistral": ("MistralConfig", GROUPED),
    "gemma": ("GemmaConfig", GROUPED),
    "phi": ("PhiConfig", {**WIDTHS, "num_key_value_heads": 2}),
    "gpt_neox": ("GPTNeoXConfig", WIDTHS),
    "gpt2": ("GPT2Config", {"n_embd": 16, "n_inner": 24, "n_layer": 3, "n_head": 2, "n_positions": 128}),
    "gemma3": ("Gemma3Config", GROUPED),
    "mixtral": ("MixtralConfig", {**GROUPED, "num_local_experts": 3, "num_experts_per_tok": 2}),
}
VISION = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
IMAGES = {**VISION, "image_size": 28, "patch_size": 14}  # a vision tower that is as deep as the language model
SEPARATE = ["q_proj", "v_proj", "down_proj"]
TARGETS: dict[str, Any] = {
    "phi": ["q_proj", "dense", "fc2"],
    "gpt_neox": ["query_key_value", "dense_4h_to_h"],
    "gpt2": ["c_attn", "c_fc"],
    "gemma3": r".*language_model.*\.(q_proj|v_proj|down_proj)",
    "mixtral": ["q_proj", "v_proj"],
}
LEARNT = 2  # steps of training
PAIR = ("mol", "prot")


def tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """Byte-level as GPT-NeoX's and Qwen's, or with blanks as ▁ and a template that starts with <bos>, as Gemma's."""
    inner = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True) if kind == "gemma" else models.BPE())
    alphabet: list[str] = []
    if kind == "gemma":
        inner.normalizer = normalizers.Replace(" ", "▁")
        inner.decoder = decoders.Replace("▁", " ")
    else:
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    corpus = [f"{name}: {text}\n" for name, texts in TEXTS.items() for text in texts]
    inner.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, special_tokens=special)
    )
    if kind in ("gemma", "llama"):
        inner.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    start = {} if kind.startswith("qwen") else {"bos_token": "<bos>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", **start
    )


def save_backbone(folder: Path, kind: str = "llama", seed: int = 0, **changes: Any) -> Path:
    """A random backbone with weights large enough that every layer changes its input visibly."""
    text_tokenizer = tokenizer(kind)
    name, widths = CONFIGS[kind]
    settings = {"vocab_size": 330, "initializer_range": 0.2, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    values = {**settings, **widths, **changes}
    if kind == "gemma3":
        values = {"text_config": values, "vision_config": IMAGES, "mm_tokens_per_image": 1, "initializer_range": 0.2}
    config = getattr(transformers, name)(**values)
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    text_tokenizer.save_pretrained(folder)
    return folder


def train_adapter(backbone: Path, folder: Path, texts: Sequence[str], seed: int, **changes: Any) -> Path:
    """An adapter after a few of PEFT's own steps on ``texts``; ``changes`` go to ``LoraConfig``."""
    model = AutoModelForCausalLM.from_pretrained(backbone)
    text_tokenizer = AutoTokenizer.from_pretrained(backbone)
    targets = TARGETS.get(model.config.model_type, SEPARATE)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": targets, "lora_dropout": 0.0, "task_type": "CAUSAL_LM"}
    torch.manual_seed(seed)
    peft_model = peft.get_peft_model(model, peft.LoraConfig(**{**settings, **changes}))
    batch = text_tokenizer(list(texts), return_tensors="pt", padding=True)
    batch.pop("token_type_ids", None)
    optimiser = torch.optim.AdamW([p for p in peft_model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(LEARNT):
        peft_model(**batch, labels=batch["input_ids"]).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    peft_model.save_pretrained(folder)
    return folder


def train_experts(backbone: Path, root: Path, names: Sequence[str] = PAIR, **changes: Any) -> dict[str, Path]:
    """One adapter for each name."""
    return {name: train_adapter(backbone, root / name, TEXTS[name], seed, **changes) for seed, name in enumerate(names)}


def write_probe(path: Path, names: Sequence[str] = PAIR, samples: int = 4) -> Path:
    """One text per expert on every line."""
    lines = [json.dumps({name: TEXTS[name][row % 4] for name in names}) for row in range(samples)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def command(backbone: Path, experts: Mapping[str, Path], out: Path, probe: Path | None, *overrides: str) -> list[str]:
    """The front door's arguments."""
    paths = [f"experts.{name}={path}" for name, path in experts.items()]
    probed = [] if probe is None else [f"probe.file={probe}"]
    return [f"backbone={backbone}", *paths, f"out={out}", *probed, "compute.threads=1", *overrides]
