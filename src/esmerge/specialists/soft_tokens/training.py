"""How specialists are taught: a trunk alone, a projector alone, then a LoRA on the backbone behind frozen encoders.

Which entities, labels and questions they are taught is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from esmerge.adapters.lora import LoraState
from esmerge.core.prompts import Prompt
from esmerge.core.rng import generator
from esmerge.model.attach import detach, extract_lora, init_lora
from esmerge.model.loss import answer_loss
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.model.training import Schedule, train
from esmerge.specialists.soft_tokens.encoder import SoftTokenEncoder
from esmerge.specialists.soft_tokens.settings import AlignmentSettings, EncoderSettings, LoraSettings

STATISTICS_SAMPLE = 2000  # training entities behind what a trunk takes from the inputs' statistics

Batches = Callable[[int], Sequence[Prompt]]
"""Step -> the sequences of that step's batch; it depends on the step alone."""

Loss = Callable[[PromptEncoder, int], Tensor]
"""(prompt encoder, step) -> the loss of that step's batch."""

Untrained = Callable[[], tuple[SoftTokenEncoder, nn.ModuleList]]
"""Draws an encoder's weights, and those of the heads that train its trunk: the same at every call."""


@dataclass(frozen=True)
class TrunkTask:
    """What a trunk is taught without the backbone.

    Attributes:
        values: the training entities.
        loss: (encoder, heads, prepared ``values``, step) -> the loss of that step's batch.
        evaluate: (encoder, heads) -> figures worth recording.
        finish: (encoder, prepared ``values``): what is fitted to the trained trunk in place, without gradients.
    """

    values: Sequence[str]
    loss: Callable[[SoftTokenEncoder, nn.ModuleList, Tensor, int], Tensor]
    evaluate: Callable[[SoftTokenEncoder, nn.ModuleList], Mapping[str, object]] = lambda encoder, heads: {}
    finish: Callable[[SoftTokenEncoder, Tensor], None] = lambda encoder, inputs: None


def train_trunk(
    encoder: SoftTokenEncoder,
    heads: nn.ModuleList,
    task: TrunkTask,
    settings: EncoderSettings,
    seed: int,
    checkpoint: Path,
) -> float:
    """Train an encoder's trunk and the heads in place; returns the final loss."""
    inputs = encoder.feature_encoder.prepare(task.values)
    sample = generator(seed, "features").permutation(len(task.values))[:STATISTICS_SAMPLE]
    encoder.trunk.fit_statistics(inputs[sample])
    final = train(
        f"{encoder.modality} encoder",
        [
            parameter
            for module in (encoder.trunk, heads)
            for parameter in module.parameters()
            if parameter.requires_grad
        ],
        lambda step: task.loss(encoder, heads, inputs, step),
        Schedule(settings.steps, settings.rate, settings.weight_decay, batch=settings.batch),
        checkpoint,
        statistics=list(encoder.trunk.buffers()),
    )
    task.finish(encoder, inputs)
    return final


def align(
    prompt_encoder: PromptEncoder,
    encoder: SoftTokenEncoder,
    batches: Batches,
    settings: AlignmentSettings,
    checkpoint: Path,
) -> float:
    """Train an encoder's projector in place; returns the final loss."""
    encoder.projector.requires_grad_(True)
    try:
        return train(
            f"{encoder.modality} alignment",
            list(encoder.projector.parameters()),
            lambda step: answer_loss(prompt_encoder, batches(step)),
            Schedule(settings.steps, settings.rate, batch=settings.batch),
            checkpoint,
        )
    finally:
        encoder.projector.requires_grad_(False)


def train_adapter(
    prompt_encoder: PromptEncoder,
    expert: str,
    batches: Batches,
    settings: LoraSettings,
    targets: Sequence[str],
    init_seed: int,
    checkpoint: Path,
    projector: tuple[nn.Module, float] | None = None,
    loss: Loss | None = None,
) -> tuple[LoraState, float]:
    """Train a specialist's LoRA, and with it the projector of its encoder if there is one to train.

    Args:
        projector: trained in place, with its peak learning rate; None leaves all encoders as they are.
        loss: what is minimised; None for that of the batches' answers.
        targets: linear modules that are adapted.
        init_seed: of the adapter's initial A.

    Returns:
        The adapter in float32, and the final loss.
    """
    backbone = prompt_encoder.backbone
    parameters = init_lora(backbone.model, "trained", settings.rank, settings.alpha, targets, init_seed)
    beside = [] if projector is None else [(list(projector[0].requires_grad_(True).parameters()), projector[1])]
    try:
        final = train(
            f"{expert} specialist",
            parameters,
            lambda step: loss(prompt_encoder, step) if loss else answer_loss(prompt_encoder, batches(step)),
            Schedule(settings.steps, settings.rate, settings.weight_decay, batch=settings.batch),
            checkpoint,
            beside=beside,
        )
        return extract_lora(backbone.model, "trained", backbone.name), final
    finally:
        detach(backbone.model)
        if projector is not None:
            projector[0].requires_grad_(False)
