"""What the embedded specialists are taught: parts of entities, then kinds of entities, then whole scenes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from esmerge.core.prompts import Answer, Prompt
from esmerge.core.rng import generator
from esmerge.core.validation import shares
from esmerge.specialists.encoders.motif_convolution import MotifScanner
from esmerge.specialists.soft_tokens.api import FeatureEncoder
from esmerge.specialists.soft_tokens.encoder import SoftTokenEncoder, drawn_from, make_heads
from esmerge.specialists.soft_tokens.settings import AlignmentSettings, EncoderSettings, LoraSettings
from esmerge.specialists.soft_tokens.training import Batches, TrunkTask, Untrained
from esmerge.world.curriculum import Mix, perceive, perception_batch
from esmerge.world.entities import Pool, Pools
from esmerge.world.proteins import MOTIF
from esmerge.world.questions import answer_word, draw_scene, phrase_question, scene_pieces, solve
from esmerge.world.world import PARTS, World


@dataclass(frozen=True)
class SceneAlignmentSettings(AlignmentSettings):
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
        super().__post_init__()
        shares(self, "specialists.alignment", "first_only")


@dataclass(frozen=True)
class SceneLoraSettings(LoraSettings):
    """Stage 2: a LoRA learns what the projector could not say.

    Attributes:
        replay: share of text-only scenes.
    """

    steps: int = 200
    batch: int = 16
    rate: float = 1e-3
    weight_decay: float = 0.05
    replay: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        shares(self, "specialists.lora", "replay")


def parts_encoder(
    modality: str, features: FeatureEncoder, settings: EncoderSettings, hidden: int, seed: int
) -> Untrained:
    """Draws an encoder's weights, and those of a head for each of an entity's two parts.

    Each modality draws weights of its own, so that soft tokens share no subspace.
    """

    def draw() -> tuple[SoftTokenEncoder, nn.ModuleList]:
        with drawn_from(int(generator(seed, f"encoder-{modality}-init").integers(2**31))):
            if modality == "molecule":
                MotifScanner(MOTIF, settings.width)  # drawn first; without it every seed would be another world
            trunk = features.trunk(settings.width)
            heads = make_heads(settings.width, (PARTS, PARTS))
            return SoftTokenEncoder(modality, features, trunk, settings.width, settings.tokens, hidden), heads

    return draw


def parts_task(train: Pool, test: Pool, settings: EncoderSettings, seed: int) -> TrunkTask:
    """Which two parts an entity is made of."""
    parts = torch.from_numpy(train.parts)

    def loss(encoder: SoftTokenEncoder, heads: nn.ModuleList, inputs: Tensor, step: int) -> Tensor:
        rows = generator(seed, f"encoder-{encoder.modality}", step).integers(len(parts), size=settings.batch)
        features, total = encoder.trunk(inputs[rows]), torch.zeros(())
        for part, head in enumerate(heads):
            total = total + functional.cross_entropy(head(features), parts[rows, part])
        return total

    def evaluate(encoder: SoftTokenEncoder, heads: nn.ModuleList) -> Mapping[str, object]:
        return {"parts_accuracy": parts_accuracy(encoder, heads, test)}

    return TrunkTask(train.values, loss, evaluate)


def parts_accuracy(encoder: SoftTokenEncoder, heads: nn.ModuleList, pool: Pool) -> float:
    """Share of entities whose two parts are both recognised."""
    with torch.no_grad():
        features = encoder.trunk(encoder.feature_encoder.prepare(pool.values))
        predicted = torch.stack([head(features).argmax(1) for head in heads], dim=1)
    return float((predicted == torch.from_numpy(pool.parts)).all(1).float().mean())


def kind_questions(world: World, pools: Pools, modality: str, settings: SceneAlignmentSettings) -> Batches:
    """Scenes of one perceived entity, with the question of which kind it is."""
    show = perceive(pools.train, modality, settings.first_only)

    def batch(step: int) -> list[Prompt]:
        rng = generator(world.seed, f"alignment-{modality}", step)
        questions = []
        for _ in range(settings.batch):
            scene = draw_scene(world, (modality,), show, rng)
            answer = Answer(answer_word(modality, solve(world, scene, modality)))
            questions.append((*scene_pieces(scene), phrase_question(modality, int(rng.integers(3))), answer))
        return questions

    return batch


def perceived_scenes(world: World, pools: Pools, modality: str, settings: SceneLoraSettings) -> Batches:
    """Scenes in which one modality is perceived and the rest is text."""
    mix = Mix(modality, replay=settings.replay)
    return lambda step: perception_batch(world, pools, mix, world.seed, step, settings.batch)
