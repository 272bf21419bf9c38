"""Matched exams: two questions that differ in what stands last, one answered no and one yes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from esmerge.adapters.lora import LoraState
from esmerge.core.prompts import Example
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.model.scoring import score
from esmerge.specialists.specialists import Exam

EXAM_BATCH = 32  # questions scored at once
NORMAL = 1.96  # deviations of a 95 % interval
LEAST_ACCURACY = 0.65  # of a specialist in a matched exam, where chance is 0.5
LEAST_GAIN = 0.15  # over the bare backbone behind the same projector

Figures = Mapping[str, Mapping[str, float]]
"""Lesson -> what ``matched_accuracy`` returns."""


def matched_accuracy(
    prompt_encoder: PromptEncoder, pairs: Sequence[tuple[Example, Example]], adapter: LoraState | None
) -> dict[str, float]:
    """How many questions are answered rightly, under an adapter or by the bare backbone.

    Args:
        pairs: of the first question the answer is no, of the second yes.

    Returns:
        ``accuracy`` with its 95 % interval ``low`` to ``high`` (pairs are drawn, not questions), and ``ranking``: in
        which share of the pairs yes is more probable for the second question than for the first.
    """
    margins = _margins(prompt_encoder, [example for pair in pairs for example in pair], adapter).reshape(-1, 2)
    right = torch.stack([margins[:, 0] <= 0, margins[:, 1] > 0], dim=1).double().mean(dim=1)
    mean, half = float(right.mean()), NORMAL * float(right.std(unbiased=False)) / len(pairs) ** 0.5
    ranking = float((margins[:, 1] > margins[:, 0]).double().mean())
    return {"questions": 2 * len(pairs), "accuracy": mean, "low": mean - half, "high": mean + half, "ranking": ranking}


def accuracy(prompt_encoder: PromptEncoder, examples: Sequence[Example], adapter: LoraState | None) -> float:
    """Share of questions whose most probable label is the right one, under an adapter or by the bare backbone."""
    answers = torch.tensor([example.answer for example in examples])
    return float(((_margins(prompt_encoder, examples, adapter) > 0) == answers.bool()).double().mean())


def grades(recorded: Mapping[str, object], reads: float) -> Exam:
    """Figures of the backbone's reading and of every lesson.

    Args:
        recorded: ``reading``, ``specialist NAME`` and ``projector alone NAME`` -> figures.
        reads: share that must be read rightly in every panel.
    """
    reading = cast(Mapping[str, Mapping[str, float]], recorded.get("reading", {}))
    figures = {f"backbone reads {panel}": share for panel, share in reading.get("after", {}).items()}
    required = dict.fromkeys(figures, reads)
    for name, value in recorded.items():
        if name.startswith("specialist "):
            expert, by_who = name.removeprefix("specialist "), cast(Mapping[str, Figures], value)
            projector = cast(Mapping[str, Figures], recorded.get(f"projector alone {expert}", {})).get("backbone", {})
            for lesson, taught in by_who["specialist"].items():
                label, share = f"{expert} specialist, {lesson}", taught["accuracy"]
                figures[label], required[label] = share, LEAST_ACCURACY
                baselines = {"backbone": by_who["backbone"]} | ({"projector alone": projector} if projector else {})
                for baseline, baseline_figures in baselines.items():
                    figures[f"{label}, gain over {baseline}"] = share - baseline_figures[lesson]["accuracy"]
                    required[f"{label}, gain over {baseline}"] = LEAST_GAIN
    return Exam(figures, required)


def _margins(prompt_encoder: PromptEncoder, examples: Sequence[Example], adapter: LoraState | None) -> Tensor:
    """Log-likelihood of the second label above the first, (n,)."""
    states = {} if adapter is None else {"examined": adapter}
    with prompt_encoder.backbone.attached(states) as activate:
        activate("examined" if states else None)
        loglik = score(prompt_encoder, examples, EXAM_BATCH).loglik
    return (loglik[:, 1] - loglik[:, 0]).double()
