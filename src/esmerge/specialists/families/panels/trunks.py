"""What a trunk is taught before the backbone sees its features: the answers and the names of its entities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from esmerge.core.rng import generator
from esmerge.specialists.families.panels.lessons import Identity, Lesson, Relation
from esmerge.specialists.soft_tokens.api import FeatureEncoder
from esmerge.specialists.soft_tokens.encoder import SoftTokenEncoder, drawn_from, make_heads
from esmerge.specialists.soft_tokens.settings import EncoderSettings
from esmerge.specialists.soft_tokens.training import TrunkTask, Untrained

UNKNOWN = -1.0


def lessons_encoder(
    modality: str,
    features: FeatureEncoder,
    lessons: Sequence[Lesson],
    settings: EncoderSettings,
    hidden: int,
    seed: int,
) -> Untrained:
    """Draws an encoder and a head for each lesson.

    Soft tokens stay as long as they are projected, a few times as long as words.

    Args:
        hidden: width of the backbone's embeddings.
    """

    def draw_weights() -> tuple[SoftTokenEncoder, nn.ModuleList]:
        with drawn_from(seed):
            trunk = features.trunk(settings.width)
            encoder = SoftTokenEncoder(modality, features, trunk, settings.width, settings.tokens, hidden)
        with drawn_from(seed):
            return encoder, make_heads(settings.width, [len(lesson.wording.names) for lesson in lessons])

    return draw_weights


def lessons_task(lessons: Sequence[Lesson], settings: EncoderSettings, seed: int) -> TrunkTask:
    """All answers and names of the lessons' entities."""
    values = list(dict.fromkeys(value for lesson in lessons for value in lesson.values()))
    row_of = {value: row for row, value in enumerate(values)}
    losses = [_loss_of(lesson, row_of, settings.batch, seed) for lesson in lessons]

    def loss(encoder: SoftTokenEncoder, heads: nn.ModuleList, inputs: Tensor, step: int) -> Tensor:
        def logits(head: nn.Module, rows: list[int]) -> Tensor:
            predicted: Tensor = head(encoder.perceive(inputs[rows]))
            return predicted

        return torch.stack(
            [of_lesson(partial(logits, head), step) for head, of_lesson in zip(heads, losses, strict=True)]
        ).sum()

    return TrunkTask(values, loss)


def answers_loss(logits: Tensor, answers: Tensor) -> Tensor:
    """Mean cross-entropy of the known answers, (n, names); no and yes weigh the same in every batch.

    Args:
        answers: 1, 0 or ``UNKNOWN``.
    """
    no, yes = answers == 0, answers == 1
    losses = functional.binary_cross_entropy_with_logits(logits, answers.clamp(min=0), reduction="none")
    return losses[no].mean() + losses[yes].mean()


StepLoss = Callable[[Callable[[list[int]], Tensor], int], Tensor]
"""(rows of entities -> logits, step) -> loss."""


def _loss_of(lesson: Lesson, row_of: dict[str, int], batch: int, seed: int) -> StepLoss:
    return (
        _relation_loss(lesson, row_of, batch, seed)
        if isinstance(lesson, Relation)
        else _identity_loss(lesson, row_of, batch, seed)
    )


def _relation_loss(lesson: Relation, row_of: dict[str, int], batch: int, seed: int) -> StepLoss:
    values, names = lesson.values(), {name: column for column, name in enumerate(lesson.wording.names)}
    answers = np.full((len(values), len(names)), UNKNOWN, dtype=np.float32)
    for row, value in enumerate(values):
        for name, holds in lesson.answers[value].items():
            answers[row, names[name]] = holds

    def loss(logits: Callable[[list[int]], Tensor], step: int) -> Tensor:
        drawn = generator(seed, f"trunk-{lesson.name}", step).integers(len(values), size=batch)
        return answers_loss(logits([row_of[values[row]] for row in drawn]), torch.from_numpy(answers[drawn]))

    return loss


def _identity_loss(lesson: Identity, row_of: dict[str, int], batch: int, seed: int) -> StepLoss:
    entities = [lesson.entities[name] for name in lesson.wording.names]

    def loss(logits: Callable[[list[int]], Tensor], step: int) -> Tensor:
        rng = generator(seed, f"trunk-{lesson.name}", step)
        labels = rng.integers(len(entities), size=batch)
        rows = [row_of[entities[label][int(rng.integers(len(entities[label])))]] for label in labels]
        return functional.cross_entropy(logits(rows), torch.from_numpy(labels))

    return loss
