"""Soft tokens that mean nothing: what another modality looks like to a specialist that does not perceive it.

In a merge every adapter meets what the others perceive. It has to leave that alone, so it is taught to: on questions
about foreign tokens it imitates the bare backbone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from esmerge.core.prompts import Answer, Entity, Prompt, PromptSegment
from esmerge.core.rng import generator
from esmerge.model.imitation import Taught
from esmerge.specialists.families.panels.wording import EQUALS, Wording

FOREIGN = "foreign"  # the modality's name
SPREAD = 3**-0.5  # deviation of what an untrained linear projector makes of features of unit variance


class ForeignEncoder:
    """Draws soft tokens, the same for the same value.

    Args:
        tokens: the fewest of an entity; it has up to ``longest`` times as many.
        hidden: width of the backbone's embeddings.
        device: where the backbone is.
    """

    modality = FOREIGN

    def __init__(self, tokens: int, longest: int, hidden: int, seed: int, device: torch.device) -> None:
        self.tokens, self.longest, self.hidden, self.seed, self.device = tokens, longest, hidden, seed, device

    def encode(self, values: Sequence[str]) -> list[Tensor]:
        """Soft tokens, (tokens, hidden) each."""
        return [self._draw(generator(self.seed, FOREIGN, int(value))) for value in values]

    def _draw(self, rng: np.random.Generator) -> Tensor:
        tokens = self.tokens * int(rng.integers(1, self.longest, endpoint=True))
        draw = rng.normal(scale=SPREAD, size=(tokens, self.hidden))
        return torch.tensor(draw, dtype=torch.float32, device=self.device)


def foreign(text: Prompt, wording: Wording, rng: np.random.Generator) -> Taught:
    """A text-only sequence with foreign tokens in place of its record, or of its names.

    Args:
        text: a record and questions, as ``text_batch`` draws them.
    """

    def entity() -> Entity:
        return Entity(FOREIGN, str(rng.integers(2**31)))

    if rng.integers(2):
        sequence: Prompt = (wording.head, entity(), *text[1:])
    else:
        segments: list[PromptSegment] = []
        for item in text[1:]:
            question = not isinstance(item, Answer)
            segments += [wording.middle, entity()] if question else [item]
            segments += [EQUALS] * (question and str(item).endswith(EQUALS))
        sequence = (text[0], *segments)
    return Taught(sequence, imitates=sequence, answered=False)
