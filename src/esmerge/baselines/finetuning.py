"""LoRA fine-tuning on examples: the reference that has seen the task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from esmerge.adapters.lora import LoraState
from esmerge.core.errors import InputError
from esmerge.core.prompts import Example
from esmerge.core.rng import generator
from esmerge.model.attach import detach, extract_lora, init_lora
from esmerge.model.loss import answer_loss
from esmerge.model.training import Schedule, train
from esmerge.specialists.specialists import Specialists


def finetune(specialists: Specialists, examples: Sequence[Example], name: str, seed: int, scratch: Path) -> LoraState:
    """Train a new adapter on solved examples, starting from the bare backbone.

    Args:
        examples: a benchmark's training split.
        name: the benchmark's; shown beside the progress bar, and names the random stream.
        scratch: folder for checkpoints.

    Raises:
        InputError: there are no examples.
    """
    if not examples:
        raise InputError(f"{name} has no training examples to fine-tune on")
    settings, model = specialists.finetuning, specialists.backbone.model
    sequences = [example.solved() for example in examples]

    def loss_at(step: int) -> Tensor:
        rows = generator(seed, f"finetune-{name}", step).integers(len(sequences), size=settings.batch)
        return answer_loss(specialists.prompt_encoder, [sequences[row] for row in rows])

    parameters = init_lora(model, "finetuned", settings.rank, settings.alpha, specialists.targets, seed)
    try:
        schedule = Schedule(settings.steps, settings.rate, settings.weight_decay)
        train(f"fine-tuning on {name}", parameters, loss_at, schedule, scratch)
        return extract_lora(model, "finetuned", specialists.backbone.name)
    finally:
        detach(model)
