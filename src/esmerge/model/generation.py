"""Free greedy generation: what a model writes after each prompt, soft tokens included.

The loop is its own, so that no setting that a checkpoint brings for generation (sampling, a repetition penalty)
changes an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from transformers import DynamicCache

from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Example
from esmerge.model.backbone import Backbone
from esmerge.model.batching import Question, batches
from esmerge.model.prompt_encoder import Batch, PromptEncoder
from esmerge.model.scoring import NO_JOURNAL
from esmerge.storage.journal import Journal


def generate(
    prompt_encoder: PromptEncoder,
    examples: Sequence[Example],
    batch_size: int,
    max_new_tokens: int,
    on_progress: Callable[[int], object] | None = None,
    *,
    journal: Journal = NO_JOURNAL,
) -> list[str]:
    """What the model writes under the adapter that is active now.

    Args:
        max_new_tokens: where an answer is cut off that the model does not end itself.
        on_progress: told how many examples were finished since the last call.
        journal: keeps each batch's answers as they come; what it holds already is not written again.

    Returns:
        One text per example, in their order, without special tokens.

    Raises:
        ConfigError: a label is longer than ``max_new_tokens``, so it could never be given.
        InputError: an entity of an example is invalid.
    """
    for labels in dict.fromkeys(example.labels for example in examples):
        _check_room(prompt_encoder, labels, max_new_tokens)
    texts = [""] * len(examples)
    for questions in batches(prompt_encoder, examples, batch_size, on_progress=on_progress):
        write = partial(_write, prompt_encoder, questions, max_new_tokens)
        written = journal.answers([question.row for question in questions], write)
        for question, ids in zip(questions, written, strict=True):
            texts[question.row] = str(prompt_encoder.backbone.tokenizer.decode(ids, skip_special_tokens=True))
    return texts


def _write(prompt_encoder: PromptEncoder, questions: Sequence[Question], limit: int) -> list[list[int]]:
    batch = prompt_encoder.collate([question.prompt for question in questions], side="left")
    return greedy_ids(prompt_encoder.backbone, batch, limit)


@torch.no_grad()
def greedy_ids(backbone: Backbone, batch: Batch, limit: int) -> list[list[int]]:
    """The most probable token again and again, until an end token or ``limit`` tokens; end tokens are left out.

    Args:
        batch: prompts padded on the left, as soft and hard tokens' embeddings.
    """
    stops = torch.tensor(sorted(end_ids(backbone)), dtype=torch.long, device=batch.mask.device)
    cache = DynamicCache(config=backbone.model.config)
    embeds, mask, positions = batch.embeds, batch.mask, batch.positions()
    ended = torch.zeros(len(mask), dtype=torch.bool, device=mask.device)
    steps: list[Tensor] = []
    while len(steps) < limit and not bool(ended.all()):
        logits = backbone.model(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        next_ids = logits[:, -1].argmax(dim=-1)
        ended = ended | torch.isin(next_ids, stops)
        steps.append(next_ids.masked_fill(ended, -1))
        embeds = backbone.embed(next_ids)[:, None]
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        positions = positions[:, -1:] + 1
    return [[token for token in row if token >= 0] for row in torch.stack(steps, dim=1).tolist()]


def end_ids(backbone: Backbone) -> set[int]:
    """Ids that end a text: the tokenizer's and those of the model's own settings."""
    ids = {backbone.tokenizer.eos_token_id}
    settings = backbone.model.generation_config
    named = settings.eos_token_id if settings is not None else None
    ids.update(named if isinstance(named, list) else [named])
    return {int(token) for token in ids if token is not None}


def _check_room(prompt_encoder: PromptEncoder, labels: Sequence[str], limit: int) -> None:
    longest = max(labels, key=lambda label: len(prompt_encoder.tokens(label)))
    needed = len(prompt_encoder.tokens(longest))
    if needed > limit:
        raise ConfigError(
            f"compute.max_new_tokens={limit}: label {longest!r} has {needed} tokens, so it could never be answered; "
            f"expected at least {needed}"
        )
