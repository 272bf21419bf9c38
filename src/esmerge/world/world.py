"""The facts of the embedded world: which class of drug binds, kills, clashes and combines.

Classes, families and lineages are numbers here; their words are in ``language``. All tables follow from the seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from esmerge.core.errors import ConfigError
from esmerge.core.rng import generator

KINDS = 6  # molecule classes, protein families and cell lineages alike
SUBTYPES = 2  # ways in which an entity of a kind can be made
PARTS = 4  # groups of scaffolds, of key substituents, of first motifs, of second motifs
CLASH_OFFSETS = (2, 3, 4)  # two bits of each class matter; offsets {1, 3, 5} would need only one


@dataclass(frozen=True)
class WorldSettings:
    """What a user may vary about the world.

    Attributes:
        split: ``random`` (new molecules on known scaffolds) or ``scaffold`` (test molecules on scaffolds unseen in
            training).
        train_entities: entities of each modality that training may draw on.
        validation_entities: entities of each modality for choosing constants.
        test_entities: held-out entities of each modality.
        questions: test questions per benchmark.
        train_questions: questions of a benchmark's small training split, and of its validation split.
    """

    split: str = "random"
    train_entities: int = 4000
    validation_entities: int = 400
    test_entities: int = 1000
    questions: int = 1000
    train_questions: int = 256

    def __post_init__(self) -> None:
        if self.split not in ("random", "scaffold"):
            raise ConfigError(f"world.split is {self.split!r}: expected random or scaffold")
        for name in ("train_entities", "validation_entities", "test_entities", "questions", "train_questions"):
            if getattr(self, name) < 2 * KINDS:
                raise ConfigError(f"world.{name} is {getattr(self, name)}: expected at least {2 * KINDS}")


@dataclass(frozen=True)
class World:
    """The rule tables.

    Attributes:
        seed: fixes the tables.
        settings: sizes and split.
        bind: (molecule class, protein family) boolean.
        kill: (molecule class, cell lineage) boolean.
        clash: (molecule class, molecule class) boolean, symmetric.
        molecule_parts, protein_parts: (kind, subtype, 2): the two parts that make each subtype of each kind.
    """

    seed: int
    settings: WorldSettings
    bind: np.ndarray
    kill: np.ndarray
    clash: np.ndarray
    molecule_parts: np.ndarray
    protein_parts: np.ndarray

    def combine(self, first: int, second: int, lineage: int) -> bool:
        """Whether two different classes work together on a lineage: each must kill it alone."""
        return bool(self.kill[first, lineage] and self.kill[second, lineage])


def make_world(seed: int, settings: WorldSettings) -> World:
    """The world of a seed."""
    rng = generator(seed, "world")
    return World(
        seed=seed,
        settings=settings,
        bind=balanced_table(rng),
        kill=balanced_table(rng),
        clash=clash_table(rng),
        molecule_parts=part_table(rng),
        protein_parts=part_table(rng),
    )


def balanced_table(rng: np.random.Generator) -> np.ndarray:
    """A (KINDS, KINDS) boolean table, half true in each row and column, no two rows or columns equal."""
    half = KINDS // 2
    while True:
        order = rng.random((KINDS, KINDS)).argsort(axis=1)
        table = order < half
        if (table.sum(axis=0) == half).all() and _distinct(table) and _distinct(table.T):
            return table


def clash_table(rng: np.random.Generator) -> np.ndarray:
    """A symmetric circulant table with ``CLASH_OFFSETS``, under a random naming of the classes."""
    names = rng.permutation(KINDS)
    offsets = (np.arange(KINDS)[:, None] - np.arange(KINDS)[None, :]) % KINDS
    return np.isin(offsets, CLASH_OFFSETS)[np.ix_(names, names)]


def part_table(rng: np.random.Generator) -> np.ndarray:
    """(KINDS, SUBTYPES, 2) pairs of parts; the two subtypes of a kind share neither part, so no part gives a kind away.

    Each part occurs in equally many subtypes.
    """
    while True:
        grid = ~np.eye(PARTS, dtype=bool)[rng.permutation(PARTS)]
        cells = rng.permutation(np.argwhere(grid))
        pairs = cells.reshape(KINDS, SUBTYPES, 2)
        if (pairs[:, 0] != pairs[:, 1]).all():
            return pairs


def _distinct(table: np.ndarray) -> bool:
    return len(np.unique(table, axis=0)) == len(table)
