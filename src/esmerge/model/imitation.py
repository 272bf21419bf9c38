"""A loss that teaches what is perceived to be represented as words are.

The bare backbone reads a question in words; with an adapter it reads the same question with an entity in place of the
words. Where an answer is predicted, the hidden states of every layer are drawn together. Without it two adapters that
are each right may represent their entities in ways that the other does not read, and a merge of them answers nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from esmerge.core.prompts import Prompt
from esmerge.model.attach import without_adapters
from esmerge.model.prompt_encoder import IGNORED, Batch, PromptEncoder

SKIPPED = 0.1  # share of the layers, from the first, whose states may differ: there words are put together
SMALLEST = 1e-6  # mean square of a state, against division by zero


def answer_and_imitation_loss(
    prompt_encoder: PromptEncoder, sequences: Sequence[Prompt], named: Sequence[Prompt], weight: float
) -> Tensor:
    """Mean cross-entropy on the answers' tokens, and ``weight`` times the distance to the same questions in words.

    Args:
        named: for each sequence the same questions and answers in words.
    """
    batch, target = prompt_encoder.batch(sequences), None
    if weight:
        with torch.no_grad(), without_adapters(prompt_encoder.backbone.model):
            target, _ = answer_states(prompt_encoder, prompt_encoder.batch(named))
    states, positions = answer_states(prompt_encoder, batch)
    logits = prompt_encoder.backbone.model.get_output_embeddings()(states[-1]).float()
    loss = functional.cross_entropy(logits, batch.targets[positions])
    return loss if target is None else loss + weight * relative_distance(states, target)


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
