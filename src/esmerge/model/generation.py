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

from esmerge.core.devices import moved
from esmerge.core.errors import ConfigError, NumberError
from esmerge.core.prompts import Example
from esmerge.model.backbone import Backbone
from esmerge.model.batching import Question, batches
from esmerge.model.halving import Halving
from esmerge.model.overflow import overflow_error
from esmerge.model.prompt_encoder import Batch, PromptEncoder
from esmerge.model.scoring import NO_JOURNAL
from esmerge.storage.journal import Journal

LOOK_EVERY = 8  # tokens after which a GPU is waited for to learn whether all texts have ended


class NoNextToken(NumberError):
    """A model has no most probable next token after one of a batch's prompts.

    Attributes:
        row: of that prompt in its batch.
    """

    def __init__(self, row: int) -> None:
        super().__init__(f"row {row} of a batch: no next token is the most probable, the logits are not finite")
        self.row = row


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
        NumberError: what the model thinks of the next word is NaN or infinite; the message says after which example.
    """
    for labels in dict.fromkeys(example.labels for example in examples):
        _check_room(prompt_encoder, labels, max_new_tokens)
    texts, halving = [""] * len(examples), Halving("prompts", "compute.batch_size")

    def work(questions: Sequence[Question]) -> None:
        rows = [question.row for question in questions]
        token_ids = journal.answers(rows, partial(_write, prompt_encoder, questions, max_new_tokens))
        for question, ids in zip(questions, token_ids, strict=True):
            texts[question.row] = str(prompt_encoder.backbone.tokenizer.decode(ids, skip_special_tokens=True))

    for questions in batches(prompt_encoder, examples, batch_size, on_progress=on_progress):
        halving.run(questions, work)
    return texts


def _write(prompt_encoder: PromptEncoder, questions: Sequence[Question], limit: int) -> list[list[int]]:
    batch = prompt_encoder.collate([question.prompt for question in questions], side="left")
    try:
        return greedy_ids(prompt_encoder.backbone, batch, limit)
    except NoNextToken as error:
        question = questions[error.row]
        subject = f"example {question.example.id}: the scores of the next word are NaN or infinite"
        raise overflow_error(prompt_encoder, question.prompt, subject) from error


@torch.no_grad()
def greedy_ids(backbone: Backbone, batch: Batch, limit: int) -> list[list[int]]:
    """The most probable token again and again, until an end token or ``limit`` tokens; end tokens are left out.

    Args:
        batch: prompts padded on the left, as soft and hard tokens' embeddings.

    Raises:
        NoNextToken: a row's largest logit is NaN or infinite, so no token is the most probable one.
    """
    stops = moved(torch.tensor(sorted(end_ids(backbone)), dtype=torch.long), batch.mask.device)
    look_every = 1 if batch.mask.device.type == "cpu" else LOOK_EVERY
    cache = DynamicCache(config=backbone.model.config)
    embeds, mask, positions = batch.embeds, batch.mask, batch.positions()
    ended = torch.zeros(len(mask), dtype=torch.bool, device=mask.device)
    steps: list[Tensor] = []
    broken = torch.zeros_like(ended)
    while len(steps) < limit and not (len(steps) % look_every == 0 and _all_ended(ended, broken)):
        logits = backbone.model(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        largest, next_ids = logits[:, -1].max(dim=-1)
        broken = broken | ~(largest.isfinite() | ended)
        ended = ended | torch.isin(next_ids, stops)
        steps.append(next_ids.masked_fill(ended, -1))
        embeds = backbone.embed(next_ids)[:, None]
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        positions = positions[:, -1:] + 1
    _all_ended(ended, broken)
    return [[token for token in row if token >= 0] for row in torch.stack(steps, dim=1).tolist()]


def _all_ended(ended: Tensor, broken: Tensor) -> bool:
    """Whether every text has ended; ``NoNextToken`` if one had no next token. A GPU is waited for once."""
    flags = torch.stack([ended, broken]).tolist()
    if any(flags[1]):
        raise NoNextToken(flags[1].index(True))
    return all(flags[0])


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
