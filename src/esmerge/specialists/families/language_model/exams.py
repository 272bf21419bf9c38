"""Exams on held-out entities, every label equally often."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from esmerge.adapters.lora import LoraState
from esmerge.core.prompts import Example
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.model.scoring import score
from esmerge.specialists.families.language_model.lessons import Lesson, exam

EXAM_BATCH = 16  # questions scored at once

Examine = Callable[[PromptEncoder, LoraState | None], Mapping[str, float]]
"""(prompt encoder, adapter or None for the bare backbone) -> figures."""


def labels_exam(lessons: Sequence[Lesson], count: int, seed: int) -> Examine:
    """About ``count`` questions about held-out entities, each label of each lesson equally often."""
    examples = exam(lessons, count, seed)

    def examine(prompt_encoder: PromptEncoder, adapter: LoraState | None) -> Mapping[str, float]:
        return {"questions": len(examples), "accuracy": accuracy(prompt_encoder, examples, adapter)}

    return examine


def accuracy(prompt_encoder: PromptEncoder, examples: Sequence[Example], adapter: LoraState | None) -> float:
    """Share of questions whose most probable label is the right one, under an adapter or without one."""
    states = {} if adapter is None else {"examined": adapter}
    right = 0
    with prompt_encoder.backbone.attached(states) as activate:
        activate("examined" if states else None)
        for labels in dict.fromkeys(example.labels for example in examples):
            group = [example for example in examples if example.labels == labels]
            predicted = score(prompt_encoder, group, EXAM_BATCH).loglik.argmax(dim=1)
            right += sum(int(label) == example.answer for label, example in zip(predicted, group, strict=True))
    return right / len(examples)
