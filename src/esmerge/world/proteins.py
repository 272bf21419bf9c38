"""Proteins of the embedded world: a random background with one mutated motif in each half.

The family depends on both motifs.
"""

from __future__ import annotations

import numpy as np

from esmerge.core.rng import generator
from esmerge.world.world import PARTS, World

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
LENGTH = 60
MOTIF = 9
MUTATION_RATE = 0.15


def motifs(world: World) -> np.ndarray:
    """(half, part, MOTIF) residue numbers: the motifs of the first and the second half."""
    rng = generator(world.seed, "motifs")
    return rng.integers(len(RESIDUES), size=(2, PARTS, MOTIF))


def draw_protein(
    world: World, kind: int, subtype: int, rng: np.random.Generator, table: np.ndarray
) -> tuple[str, tuple[int, int]]:
    """One random protein of a family and subtype, and the numbers of its two motifs."""
    parts = tuple(int(part) for part in world.protein_parts[kind, subtype])
    residues = rng.integers(len(RESIDUES), size=LENGTH)
    half = LENGTH // 2
    for side, part in enumerate(parts):
        start = side * half + rng.integers(half - MOTIF + 1)
        mutated = rng.random(MOTIF) < MUTATION_RATE
        noise = rng.integers(len(RESIDUES), size=MOTIF)
        residues[start : start + MOTIF] = np.where(mutated, noise, table[side, part])
    return "".join(RESIDUES[r] for r in residues), (parts[0], parts[1])
