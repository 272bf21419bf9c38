"""What specialists on a language model are taught: the lessons' answers, first the trunk, then the backbone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from esmerge.core.rng import generator
from esmerge.specialists.families.language_model.lessons import Lesson, draw
from esmerge.specialists.soft_tokens.api import FeatureEncoder
from esmerge.specialists.soft_tokens.encoder import SoftTokenEncoder, drawn_from, make_heads
from esmerge.specialists.soft_tokens.settings import EncoderSettings
from esmerge.specialists.soft_tokens.training import Batches, TrunkTask, Untrained


def answers_encoder(
    modality: str,
    features: FeatureEncoder,
    lessons: Sequence[Lesson],
    settings: EncoderSettings,
    embeddings: Tensor,
    seed: int,
) -> Untrained:
    """Draws an encoder whose soft tokens are as long as the backbone's words, and a head for each lesson.

    Args:
        embeddings: of the backbone's words, (vocabulary, hidden).
    """
    rms = float(embeddings.float().square().mean().sqrt())

    def draw_weights() -> tuple[SoftTokenEncoder, nn.ModuleList]:
        hidden = embeddings.shape[1]
        with drawn_from(seed):
            trunk = features.trunk(settings.width)
            encoder = SoftTokenEncoder(modality, features, trunk, settings.width, settings.tokens, hidden, rms)
        with drawn_from(seed):
            return encoder, make_heads(settings.width, [len(lesson.labels) for lesson in lessons])

    return draw_weights


def answers_task(lessons: Sequence[Lesson], settings: EncoderSettings, seed: int) -> TrunkTask:
    """The answers of every lesson, each label equally often."""
    values = list(dict.fromkeys(value for lesson in lessons for column in lesson.train for value in column))
    row_of = {value: row for row, value in enumerate(values)}

    def loss(encoder: SoftTokenEncoder, heads: nn.ModuleList, inputs: Tensor, step: int) -> Tensor:
        total = torch.zeros(())
        for lesson, head in zip(lessons, heads, strict=True):
            rng = generator(seed, f"trunk-{lesson.name}", step)
            labels = rng.integers(len(lesson.labels), size=settings.batch)
            rows = [row_of[lesson.train[label][rng.integers(len(lesson.train[label]))]] for label in labels]
            logits = head(encoder.perceive(inputs[rows]))
            total = total + functional.cross_entropy(logits, torch.from_numpy(labels))
        return total

    return TrunkTask(values, loss)


def questions(lessons: Sequence[Lesson], size: int, seed: int, stream: str) -> Batches:
    """Batches of ``size`` solved training questions; the stream names their random draws."""
    return lambda step: [question.solved() for question in draw(lessons, size, seed, stream, step)]
