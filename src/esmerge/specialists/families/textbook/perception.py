"""The specialists: each learns to perceive one modality, first by its projector, then by a LoRA on the backbone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from esmerge.adapters.lora import LoraState
from esmerge.core.prompts import Answer, Pieces
from esmerge.core.rng import generator
from esmerge.core.validation import above_zero, at_least, shares
from esmerge.model.attach import detach, fresh, read
from esmerge.model.loss import answer_loss
from esmerge.model.prompt_encoder import Renderer
from esmerge.model.training import Schedule, train
from esmerge.specialists.families.textbook.encoders import SoftTokenEncoder
from esmerge.world.curriculum import Mix, perceive, perception_batch
from esmerge.world.entities import Pools
from esmerge.world.questions import answer_word, ask, draw_scene, scene_pieces, solve
from esmerge.world.world import World

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class AlignmentSettings:
    """Stage 1: only the projector learns, on 'which kind'.

    Attributes:
        first_only: share of examples from the first subtypes alone; the rest is from both. It decides how much the
            backbone perceives without an adapter.
    """

    steps: int = 40
    batch: int = 48
    rate: float = 2e-3
    first_only: float = 0.92

    def __post_init__(self) -> None:
        at_least(self, "specialists.alignment", 1, "steps", "batch")
        above_zero(self, "specialists.alignment", "rate")
        shares(self, "specialists.alignment", "first_only")


@dataclass(frozen=True)
class LoraSettings:
    """Stage 2: a LoRA learns what the projector could not say.

    Attributes:
        rank, alpha: of the adapter.
        steps: updates; ``batch`` scenes each.
        replay: share of text-only scenes.
    """

    rank: int = 8
    alpha: float = 32.0
    steps: int = 200
    batch: int = 16
    rate: float = 1e-3
    weight_decay: float = 0.05
    replay: float = 0.25

    def __post_init__(self) -> None:
        at_least(self, "specialists.lora", 1, "rank", "steps", "batch")
        at_least(self, "specialists.lora", 0, "weight_decay")
        above_zero(self, "specialists.lora", "rate", "alpha")
        shares(self, "specialists.lora", "replay")


def align(
    renderer: Renderer,
    encoder: SoftTokenEncoder,
    world: World,
    pools: Pools,
    settings: AlignmentSettings,
    scratch: Path,
) -> float:
    """Train an encoder's projector in place; returns the final loss."""
    modality = encoder.modality
    show = perceive(pools.train, modality, settings.first_only)

    def question(step: int) -> list[Pieces]:
        rng = generator(world.seed, f"alignment-{modality}", step)
        found = []
        for _ in range(settings.batch):
            scene = draw_scene(world, (modality,), show, rng)
            answer = Answer(answer_word(modality, solve(world, scene, modality)))
            found.append((*scene_pieces(scene), ask(modality, int(rng.integers(3))), answer))
        return found

    encoder.projector.requires_grad_(True)
    loss = train(
        f"{modality} alignment",
        list(encoder.projector.parameters()),
        lambda step: answer_loss(renderer, question(step)),
        Schedule(settings.steps, settings.rate),
        scratch,
    )
    encoder.projector.requires_grad_(False)
    return loss


def specialise(
    renderer: Renderer, modality: str, world: World, pools: Pools, settings: LoraSettings, init_seed: int, scratch: Path
) -> LoraState:
    """Train a specialist's LoRA on scenes in which its modality is perceived and the rest is text."""
    backbone = renderer.backbone
    mix = Mix(modality, replay=settings.replay)
    parameters = fresh(backbone.model, "trained", settings.rank, settings.alpha, TARGETS, init_seed)
    try:
        train(
            f"{modality} specialist",
            parameters,
            lambda step: answer_loss(renderer, perception_batch(world, pools, mix, world.seed, step, settings.batch)),
            Schedule(settings.steps, settings.rate, settings.weight_decay),
            scratch,
        )
        return read(backbone.model, "trained", backbone.name)
    finally:
        detach(backbone.model)
