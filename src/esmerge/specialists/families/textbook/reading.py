"""The backbone: a small Llama that learns the textbook's rules from text alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from esmerge.core.validation import above_zero, at_least
from esmerge.model.backbone import Backbone
from esmerge.model.loss import answer_loss
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.model.training import Schedule, train
from esmerge.world.curriculum import reading_batch
from esmerge.world.language import PADDING, START, UNKNOWN, vocabulary
from esmerge.world.world import World

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")  # what a LoRA adapts


@dataclass(frozen=True)
class ReadingSettings:
    """Size of the backbone and how long it reads.

    Attributes:
        hidden, layers, heads, intermediate: shape of the Llama.
        steps: updates; ``batch`` scenes each.
        noise: Gaussian noise on the input embeddings, in units of their root mean square; it makes the backbone
            tolerant of soft tokens, which never equal a word.
        rate: AdamW's rate for embeddings and norms; ``muon_rate`` Muon's for matrices.
    """

    hidden: int = 128
    layers: int = 6
    heads: int = 4
    intermediate: int = 256
    steps: int = 420
    batch: int = 24
    rate: float = 3e-3
    muon_rate: float = 0.007
    noise: float = 0.4

    def __post_init__(self) -> None:
        at_least(self, "specialists.reading", 1, "hidden", "layers", "heads", "intermediate", "steps", "batch")
        at_least(self, "specialists.reading", 0, "muon_rate", "noise")
        above_zero(self, "specialists.reading", "rate")


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token per word of the textbook; words are separated by blanks."""
    words = {word: index for index, word in enumerate(vocabulary())}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=UNKNOWN, pad_token=PADDING, bos_token=START, padding_side="left"
    )


def make_model(settings: ReadingSettings, seed: int) -> LlamaForCausalLM:
    """An untrained Llama for the textbook's words."""
    words = vocabulary()
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=settings.hidden,
        intermediate_size=settings.intermediate,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=words.index(START),
        pad_token_id=words.index(PADDING),
        eos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def read_textbook(world: World, settings: ReadingSettings, folder: Path, checkpoint: Path) -> None:
    """Train the backbone on text and save model and tokenizer to ``folder``."""
    model, tokenizer = make_model(settings, world.seed), make_tokenizer()
    backbone = Backbone(model, tokenizer, "textbook", "")
    prompt_encoder = PromptEncoder(backbone, {})
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    rest = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]

    def loss_at(step: int) -> Tensor:
        sequences, weights = reading_batch(world, world.seed, step, settings.steps, settings.batch)
        return answer_loss(prompt_encoder, sequences, weights, settings.noise, step)

    schedule = Schedule(settings.steps, settings.rate, muon_learning_rate=settings.muon_rate, batch=settings.batch)
    model.train()
    train("backbone reads", rest, loss_at, schedule, checkpoint, matrices)
    model.eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
