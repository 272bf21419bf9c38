"""The training loss: cross-entropy on answers, nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from esmerge.core.prompts import Prompt
from esmerge.model.prompt_encoder import IGNORED, PromptEncoder


def answer_loss(
    prompt_encoder: PromptEncoder,
    sequences: Sequence[Prompt],
    weights: Sequence[float] | None = None,
    noise: float = 0.0,
    seed: int = 0,
) -> Tensor:
    """Mean cross-entropy over the answers' tokens of a batch, each sequence's tokens weighted by its weight."""
    batch = prompt_encoder.batch(sequences)
    embeds = batch.embeds
    if noise:
        gaussian = torch.randn(embeds.shape, generator=torch.Generator().manual_seed(seed))
        embeds = embeds + noise * embeds.detach().square().mean().sqrt() * gaussian.to(embeds)
    model = prompt_encoder.backbone.model
    rows, columns = (batch.targets != IGNORED).nonzero(as_tuple=True)
    hidden = model.get_decoder()(inputs_embeds=embeds, attention_mask=batch.mask, use_cache=False).last_hidden_state
    logits = model.get_output_embeddings()(hidden[rows, columns]).float()
    losses = functional.cross_entropy(logits, batch.targets[rows, columns], reduction="none")
    weight = torch.ones(len(sequences)) if weights is None else torch.tensor(list(weights))
    weight = weight.to(losses)[rows]
    return (losses * weight).sum() / weight.sum()
