"""What is read in training: text for the backbone, scenes with perceived entities for the specialists.

Every batch is a function of (seed, step), so training can stop and go on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from esmerge.core.prompts import Answer, Entity, Prompt
from esmerge.core.rng import generator
from esmerge.world import cells
from esmerge.world.entities import Pool, Pools
from esmerge.world.language import describe
from esmerge.world.questions import PAIR_FORMS, SINGLE_FORMS, Show, draw_scene, sequence
from esmerge.world.world import KINDS, SUBTYPES, World

QUESTIONS = 8  # about one scene
SINGLE_SHARE = 0.25  # share of scenes with one entity
BARE, SYNONYMS = 0.4, 0.6  # ends of the first two phases of the reading curriculum
LIST_WEIGHT = 0.1  # of a gene list's tokens in the reading loss: they are many and mostly noise
SECOND_VARIANT = 0.04  # how often a marker list shows a lineage's second variant: what the backbone rarely reads


@dataclass(frozen=True)
class Mix:
    """How a specialist's training scenes are made.

    Attributes:
        modality: what the specialist perceives.
        replay: share of scenes in text only.
        first_only: probability that an entity is drawn from the first subtypes alone.
        single: share of scenes that hold one perceived entity and nothing else.
    """

    modality: str
    replay: float = 0.25
    first_only: float = 0.0
    single: float = SINGLE_SHARE


def reading_batch(world: World, seed: int, step: int, steps: int, size: int) -> tuple[list[Prompt], list[float]]:
    """Text for the backbone: ``size`` scenes at this step's difficulty, gene lists beside them, and loss weights."""
    rng = generator(seed, "reading", step)
    progress = step / steps
    level = 0 if progress < BARE else 1 if progress < SYNONYMS else 2
    scenes = [_text_scene(world, level, rng) for _ in range(size)]
    lists = [_gene_list(world, rng) for _ in range(max(1, size // 8))]
    markers = [_marker_scene(world, rng) for _ in range(max(1, size // 4))]
    weights = [1.0] * len(scenes) + [LIST_WEIGHT] * len(lists) + [1.0] * len(markers)
    return scenes + lists + markers, weights


def perception_batch(world: World, pools: Pools, mix: Mix, seed: int, step: int, size: int) -> list[Prompt]:
    """Scenes in which one modality is perceived and everything else is text."""
    rng = generator(seed, f"perception-{mix.modality}", step)
    show = perceive(pools.train, mix.modality, mix.first_only)
    forms = [form for form in PAIR_FORMS if mix.modality in form]
    batch = []
    for _ in range(size):
        if rng.random() < mix.replay:
            batch.append(_text_scene(world, 2, rng))
            continue
        form = (mix.modality,) if rng.random() < mix.single else forms[rng.integers(len(forms))]
        batch.append(sequence(world, draw_scene(world, form, show, rng), QUESTIONS, rng))
    return batch


def perceive(pool: dict[str, Pool], modality: str, first_only: float = 0.0) -> Show:
    """Shows entities of one modality as what they are, and all others in words."""

    def show(entity_modality: str, kind: int, rng: np.random.Generator) -> str | Entity:
        if entity_modality != modality:
            return describe(entity_modality, kind, rng, level=2)
        entities = pool[modality]
        return Entity(modality, entities.values[entities.choose(kind, rng, first_only)])

    return show


def _text_scene(world: World, level: int, rng: np.random.Generator) -> Prompt:
    forms = SINGLE_FORMS if rng.random() < SINGLE_SHARE else PAIR_FORMS
    form = forms[rng.integers(len(forms))]
    scene = draw_scene(world, form, lambda modality, kind, r: describe(modality, kind, r, level), rng)
    return sequence(world, scene, QUESTIONS, rng)


def _gene_list(world: World, rng: np.random.Generator) -> Prompt:
    table = cells.variants(world)
    genes = cells.draw_cell(int(rng.integers(KINDS)), int(rng.integers(SUBTYPES)), rng, table)
    return ("cell : ", Answer(genes))


def _marker_scene(world: World, rng: np.random.Generator) -> Prompt:
    table = cells.variants(world)

    def show(modality: str, kind: int, r: np.random.Generator) -> str:
        variant = int(r.random() < SECOND_VARIANT)
        return cells.draw_markers(kind, variant, r, table)

    return sequence(world, draw_scene(world, ("cell",), show, rng), QUESTIONS, rng)
