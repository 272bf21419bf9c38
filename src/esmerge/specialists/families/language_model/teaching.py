"""How specialists are taught: the projector alone first, then a LoRA on the backbone behind the frozen projector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from esmerge.adapters.lora import LoraState
from esmerge.core.prompts import Example, Pieces
from esmerge.model.attach import detach, fresh, read
from esmerge.model.loss import answer_loss
from esmerge.model.prompt_encoder import Renderer
from esmerge.model.scoring import score
from esmerge.model.training import Schedule, train
from esmerge.specialists.families.language_model.encoders import SoftTokenEncoder
from esmerge.specialists.families.language_model.lessons import Lesson, draw

EXAM_BATCH = 16  # questions scored at once


@dataclass(frozen=True)
class AlignmentSettings:
    """Stage 1: only the projector learns; ``batch`` questions in each of ``steps`` updates."""

    steps: int = 60
    batch: int = 8
    rate: float = 5e-3


@dataclass(frozen=True)
class LoraSettings:
    """Stage 2: a LoRA learns, the projector is frozen; ``batch`` questions in each of ``steps`` updates."""

    rank: int = 8
    alpha: float = 32.0
    steps: int = 60
    batch: int = 8
    rate: float = 5e-4
    weight_decay: float = 0.01


def align(
    renderer: Renderer,
    encoder: SoftTokenEncoder,
    lessons: Sequence[Lesson],
    settings: AlignmentSettings,
    seed: int,
    scratch: Path,
) -> float:
    """Train an encoder's projector in place; returns the final loss."""
    stream = f"alignment-{encoder.modality}"
    encoder.projector.requires_grad_(True)
    try:
        return train(
            f"{encoder.modality} alignment",
            list(encoder.projector.parameters()),
            lambda step: answer_loss(renderer, _solved(draw(lessons, settings.batch, seed, stream, step))),
            Schedule(settings.steps, settings.rate),
            scratch,
        )
    finally:
        encoder.projector.requires_grad_(False)


def specialise(
    renderer: Renderer,
    expert: str,
    lessons: Sequence[Lesson],
    settings: LoraSettings,
    targets: Sequence[str],
    seeds: tuple[int, int],
    scratch: Path,
) -> tuple[LoraState, float]:
    """Train a specialist's LoRA.

    Args:
        seeds: of the training questions, and of the adapter's initial A.

    Returns:
        The adapter in float32, and the final loss.
    """
    backbone, (seed, init) = renderer.backbone, seeds
    parameters = fresh(backbone.model, "trained", settings.rank, settings.alpha, targets, init)
    for parameter in parameters:
        # PEFT gives an adapter the backbone's dtype. In bfloat16, an update below 1/256 of a value would be lost.
        parameter.data = parameter.data.float()
    try:
        loss = train(
            f"{expert} specialist",
            parameters,
            lambda step: answer_loss(renderer, _solved(draw(lessons, settings.batch, seed, f"lora-{expert}", step))),
            Schedule(settings.steps, settings.rate, settings.weight_decay),
            scratch,
        )
        return read(backbone.model, "trained", backbone.name), loss
    finally:
        detach(backbone.model)


def accuracy(renderer: Renderer, questions: Sequence[Example], adapter: LoraState | None) -> float:
    """Share of questions whose most probable label is the right one, under an adapter or without one."""
    states = {} if adapter is None else {"examined": adapter}
    right = 0
    with renderer.backbone.attached(states) as activate:
        activate("examined" if states else None)
        for labels in dict.fromkeys(question.labels for question in questions):
            asked = [question for question in questions if question.labels == labels]
            found = score(renderer, asked, EXAM_BATCH).loglik.argmax(dim=1)
            right += sum(int(place) == question.answer for place, question in zip(found, asked, strict=True))
    return right / len(questions)


def _solved(examples: Sequence[Example]) -> list[Pieces]:
    return [example.solved() for example in examples]
