"""Exams on held-out entities: every label equally often, or each entity twice with opposite answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from esmerge.adapters.lora import LoraState
from esmerge.core.prompts import Example
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.model.scoring import score
from esmerge.specialists.families.language_model.lessons import Lesson, exam

EXAM_BATCH = 16  # questions scored at once
NORMAL = 1.96  # deviations of a 95 % interval

Examine = Callable[[PromptEncoder, LoraState | None], Mapping[str, float]]
"""(prompt encoder, adapter or None for the bare backbone) -> figures."""


def labels_exam(lessons: Sequence[Lesson], count: int, seed: int) -> Examine:
    """About ``count`` questions about held-out entities, each label of each lesson equally often."""
    examples = exam(lessons, count, seed)

    def examine(prompt_encoder: PromptEncoder, adapter: LoraState | None) -> Mapping[str, float]:
        return {"questions": len(examples), "accuracy": accuracy(prompt_encoder, examples, adapter)}

    return examine


def matched_exam(pairs: Sequence[tuple[Example, Example]]) -> Examine:
    """Pairs of questions with opposite answers, see ``sequences.matched`` and ``scenes.Scenes.matched``."""
    return lambda prompt_encoder, adapter: matched_accuracy(prompt_encoder, pairs, adapter)


def matched_accuracy(
    prompt_encoder: PromptEncoder, pairs: Sequence[tuple[Example, Example]], adapter: LoraState | None
) -> dict[str, float]:
    """How many questions are answered rightly, under an adapter or by the bare backbone.

    Args:
        pairs: two questions about one entity: of the first the first label is right, of the second the second.

    Returns:
        ``accuracy`` with its 95 % interval ``low`` to ``high`` (pairs are drawn, not questions), and ``ranking``: in
        which share of the pairs the second label is more probable for the second question than for the first.
    """
    margins = _margins(prompt_encoder, [example for pair in pairs for example in pair], adapter).reshape(-1, 2)
    right = torch.stack([margins[:, 0] <= 0, margins[:, 1] > 0], dim=1).double().mean(dim=1)
    mean, half = float(right.mean()), NORMAL * float(right.std(unbiased=False)) / len(pairs) ** 0.5
    ranking = float((margins[:, 1] > margins[:, 0]).double().mean())
    return {"questions": 2 * len(pairs), "accuracy": mean, "low": mean - half, "high": mean + half, "ranking": ranking}


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


def _margins(prompt_encoder: PromptEncoder, examples: Sequence[Example], adapter: LoraState | None) -> Tensor:
    """Log-likelihood of the second label above the first, (n,)."""
    states = {} if adapter is None else {"examined": adapter}
    with prompt_encoder.backbone.attached(states) as activate:
        activate("examined" if states else None)
        margins = torch.empty(len(examples), dtype=torch.float64)
        for labels in dict.fromkeys(example.labels for example in examples):
            rows = [row for row, example in enumerate(examples) if example.labels == labels]
            loglik = score(prompt_encoder, [examples[row] for row in rows], EXAM_BATCH).loglik
            margins[rows] = (loglik[:, 1] - loglik[:, 0]).double()
    return margins
