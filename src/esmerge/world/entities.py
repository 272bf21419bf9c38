"""Pools of molecules, proteins and cells, disjoint between training and test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from esmerge.core.errors import ConfigError
from esmerge.core.rng import generator
from esmerge.world import cells, molecules, proteins
from esmerge.world.world import KINDS, SUBTYPES, World, WorldSettings, make_world

MODALITIES = ("molecule", "protein", "cell")
REPEATS = 20_000  # draws in a row without a new entity after which a pool counts as exhausted
Draw = Callable[..., tuple[str, tuple[int, int]]]


@dataclass(frozen=True)
class Pool:
    """Entities of one modality.

    Attributes:
        values: n raw forms (SMILES, sequences, ranked gene symbols).
        kinds: (n,) class, family or lineage.
        subtypes: (n,) how each is made.
        parts: (n, 2) which parts it is made of (zeros for cells).
    """

    values: tuple[str, ...]
    kinds: np.ndarray
    subtypes: np.ndarray
    parts: np.ndarray

    def choose(self, kind: int, rng: np.random.Generator, first_only: float = 0.0) -> int:
        """Index of a random entity of a kind; with probability ``first_only`` one of its first subtype."""
        mask = self.kinds == kind
        if rng.random() < first_only:
            mask = mask & (self.subtypes == 0)
        return int(rng.choice(np.flatnonzero(mask)))


@dataclass(frozen=True)
class Pools:
    """Entities of every modality; nothing occurs in two splits."""

    train: dict[str, Pool]
    validation: dict[str, Pool]
    test: dict[str, Pool]


@lru_cache(maxsize=8)
def world_and_pools(seed: int, settings: WorldSettings) -> tuple[World, Pools]:
    """The world of a seed with its entities; kept in memory, since it is needed often."""
    world = make_world(seed, settings)
    motif_table, variant_table = proteins.motifs(world), cells.variants(world)

    def cell(kind: int, subtype: int, rng: np.random.Generator, test: bool) -> tuple[str, tuple[int, int]]:
        return cells.draw_cell(kind, subtype, rng, variant_table), (0, 0)

    def protein(kind: int, subtype: int, rng: np.random.Generator, test: bool) -> tuple[str, tuple[int, int]]:
        return proteins.draw_protein(world, kind, subtype, rng, motif_table)

    draws: dict[str, Draw] = {"molecule": partial(molecules.draw_molecule, world), "protein": protein, "cell": cell}
    sizes = {
        "test": settings.test_entities,
        "validation": settings.validation_entities,
        "train": settings.train_entities,
    }
    pools: dict[str, dict[str, Pool]] = {split: {} for split in sizes}
    for modality in MODALITIES:
        used: set[str] = set()
        for split, size in sizes.items():
            pools[split][modality] = _pool(modality, draws[modality], seed, split, size, used)
    return world, Pools(**pools)


def _pool(modality: str, draw: Draw, seed: int, split: str, size: int, used: set[str]) -> Pool:
    """``size`` entities that are not in ``used``, kinds and subtypes in equal numbers; adds them to ``used``."""
    rng = generator(seed, f"{modality}-{split}")
    values: list[str] = []
    kinds: list[int] = []
    subtypes: list[int] = []
    parts: list[tuple[int, int]] = []
    repeats = 0
    while len(values) < size:
        kind, subtype = len(values) % KINDS, len(values) // KINDS % SUBTYPES
        value, part_pair = draw(kind, subtype, rng, split == "test")
        repeats = repeats + 1 if value in used else 0
        if repeats > REPEATS:
            raise ConfigError(
                f"world.{split}_entities={size}: after {len(values)} the world has no {modality} left that is new to "
                "every split; ask for fewer"
            )
        if repeats:
            continue
        used.add(value)
        values.append(value)
        kinds.append(kind)
        subtypes.append(subtype)
        parts.append(part_pair)
    return Pool(tuple(values), np.array(kinds), np.array(subtypes), np.array(parts))
