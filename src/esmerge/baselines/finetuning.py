"""LoRA fine-tuning on examples: the references that have seen the task, or all tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from esmerge.adapters.lora import LoraState
from esmerge.core.errors import InputError
from esmerge.core.prompts import Example, Prompt
from esmerge.core.rng import generator
from esmerge.model.attach import detach, extract_lora, init_lora, resume_lora
from esmerge.model.loss import answer_loss
from esmerge.model.recompute import recomputed_if_large
from esmerge.model.training import Schedule, train
from esmerge.specialists.specialists import Specialists


def finetune(
    specialists: Specialists,
    examples: Sequence[Example],
    name: str,
    seed: int,
    scratch: Path,
    start: LoraState | None = None,
) -> LoraState:
    """Train an adapter on solved examples.

    Args:
        examples: a benchmark's training split.
        name: the benchmark's; shown beside the progress bar, and names the random stream.
        scratch: folder for checkpoints.
        start: the adapter that is trained on, of its own rank and scale; None starts a new one on the bare backbone.

    Raises:
        InputError: there are no examples.
    """
    if not examples:
        raise InputError(f"{name} has no training examples to fine-tune on")
    sequences = [example.solved() for example in examples]

    def batch(step: int) -> list[Prompt]:
        rows = generator(seed, f"finetune-{name}", step).integers(len(sequences), size=specialists.finetuning.batch)
        return [sequences[row] for row in rows]

    return _adapted(specialists, batch, specialists.finetuning.steps, name, seed, scratch, start)


def finetune_together(
    specialists: Specialists, examples: Mapping[str, Sequence[Example]], seed: int, scratch: Path
) -> LoraState:
    """Train one adapter on several benchmarks, on as many examples of each as ``finetune`` draws of it.

    Args:
        examples: benchmark -> its training split, none of them empty; they take turns in every batch.

    Raises:
        InputError: there are no benchmarks.
    """
    if not examples:
        raise InputError("there is no benchmark with training examples to fine-tune on")
    sequences = [[example.solved() for example in split] for split in examples.values()]
    size, count = specialists.finetuning.batch, len(examples)

    def batch(step: int) -> list[Prompt]:
        rng = generator(seed, "finetune-together", step)
        turns = [sequences[(step * size + place) % count] for place in range(size)]
        return [split[int(rng.integers(len(split)))] for split in turns]

    steps = specialists.finetuning.steps * count
    return _adapted(specialists, batch, steps, f"{count} benchmarks together", seed, scratch)


def _adapted(
    specialists: Specialists,
    batch: Callable[[int], list[Prompt]],
    steps: int,
    name: str,
    seed: int,
    scratch: Path,
    start: LoraState | None = None,
) -> LoraState:
    """An adapter, trained on the sequences of each step, and taken off the backbone again."""
    settings, model = specialists.finetuning, specialists.backbone.model
    try:
        if start is None:
            parameters = init_lora(model, "finetuned", settings.rank, settings.alpha, specialists.targets, seed)
        else:
            parameters = resume_lora(model, "finetuned", start)
        schedule = Schedule(steps, settings.rate, settings.weight_decay, batch=settings.batch)
        with recomputed_if_large(model):
            train(
                f"fine-tuning on {name}",
                parameters,
                lambda step: answer_loss(specialists.prompt_encoder, batch(step)),
                schedule,
                scratch,
            )
        return extract_lora(model, "finetuned", specialists.backbone.name)
    finally:
        detach(model)
