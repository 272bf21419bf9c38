"""A loss that teaches what is perceived to be represented as words are.

The bare backbone reads a question in words; with an adapter it reads the same question with an entity in place of the
words. Where an answer is predicted, the hidden states of every layer are drawn together. Without it two adapters that
are each right may represent their entities in ways that the other does not read, and a merge of them answers nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from esmerge.core.prompts import Prompt
from esmerge.model.attach import adapters_at, without_adapters
from esmerge.model.prompt_encoder import IGNORED, Batch, PromptEncoder

SKIPPED = 0.1  # share of the layers, from the first, whose states may differ: there words are put together
SMALLEST = 1e-6  # mean square of a state, against division by zero


@dataclass(frozen=True)
class Taught:
    """A training sequence, and how it is taught.

    Attributes:
        sequence: with an answer after each question.
        imitates: the same questions and answers as the bare backbone reads them: in words, where what is perceived has
            a name; None where it has none. The sequence itself: the adapter has to change nothing.
        answered: whether the answers are taught.
        in_place: whether the adapter acts on entities alone, the words being read by the bare backbone.
    """

    sequence: Prompt
    imitates: Prompt | None = None
    answered: bool = True
    in_place: bool = False


def answer_and_imitation_loss(prompt_encoder: PromptEncoder, taught: Sequence[Taught], weight: float) -> Tensor:
    """Mean cross-entropy on the answers' tokens, and ``weight`` times the distance to what is imitated."""
    model, batch = prompt_encoder.backbone.model, prompt_encoder.batch([item.sequence for item in taught])
    imitated, target = [item.imitates for item in taught if item.imitates is not None], None
    if weight and imitated:
        with torch.no_grad(), without_adapters(model):
            target, _ = answer_states(prompt_encoder, prompt_encoder.batch(imitated))
    with adapters_at(model, _acting(batch, taught)):
        states, positions = answer_states(prompt_encoder, batch)
    answered = _of_rows(positions, [item.answered for item in taught])
    logits = model.get_output_embeddings()(states[-1][answered]).float()
    loss = functional.cross_entropy(logits, batch.targets[positions][answered])
    if target is None:
        return loss
    imitating = _of_rows(positions, [item.imitates is not None for item in taught])
    return loss + weight * relative_distance(states[:, imitating], target)


def _of_rows(positions: tuple[Tensor, Tensor], rows: Sequence[bool]) -> Tensor:
    """Which positions are in the rows that are meant."""
    return torch.tensor(rows, device=positions[0].device)[positions[0]]


def _acting(batch: Batch, taught: Sequence[Taught]) -> Tensor:
    """Where adapters act, (B, T): everywhere, or on entities."""
    where = torch.ones_like(batch.mask)
    for row, (spans, item) in enumerate(zip(batch.spans, taught, strict=True)):
        if item.in_place:
            where[row] = 0
            for span in spans:
                where[row, span.start : span.stop] = 1
    return where


def answer_states(prompt_encoder: PromptEncoder, batch: Batch) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Hidden states after every layer where an answer's token is predicted, (layers, positions, hidden), and where.

    Positions are in the order of the sequences: the same questions in other words have the same ones.
    """
    rows, columns = (batch.targets != IGNORED).nonzero(as_tuple=True)
    decoder = prompt_encoder.backbone.model.get_decoder()
    states = decoder(
        inputs_embeds=batch.embeds, attention_mask=batch.mask, use_cache=False, output_hidden_states=True
    ).hidden_states
    return torch.stack([state[rows, columns] for state in states[1:]]), (rows, columns)


def relative_distance(states: Tensor, target: Tensor) -> Tensor:
    """Mean over layers and positions of ``|state - target|² / |target|²``; the first layers are left out.

    Args:
        states, target: (layers, positions, hidden).
    """
    first = int(SKIPPED * len(states))
    states, target = states[first:].float(), target[first:].float()
    scale = target.square().mean(dim=-1).clamp(min=SMALLEST)
    return ((states - target).square().mean(dim=-1) / scale).mean()
