"""Molecules of the embedded world: a scaffold, a key substituent on a linker, and a decoration.

The class depends on the scaffold's group *and* the key substituent's group, so no single substructure gives it away.
"""

from __future__ import annotations

import numpy as np
from rdkit import Chem

from esmerge.world.world import World

# K is where linker and key substituent go, D the decoration. One row a group.
SCAFFOLDS = (
    ("c1cc({K})cc({D})c1", "c1({D})ccc2cc({K})ccc2c1", "C1Cc2cc({K})cc({D})c2C1"),
    ("c1c({D})ncc({K})c1", "c1({D})ncc({K})cn1", "c1({D})ccc2cc({K})ccc2n1"),
    ("c1({D})ccc({K})s1", "c1({D})ncc({K})s1", "c1({D})cc2cc({K})ccc2o1"),
    ("C1CC({D})CCC1{K}", "C1CC({D})CNC1{K}", "C1CC({D})COC1{K}"),
)
KEYS = (
    ("C(=O)O", "C(=O)NO", "P(=O)(O)O"),
    ("N(C)C", "N8CCCC8", "NC8CC8"),
    ("S(=O)(=O)N", "S(C)(=O)=O", "S(=O)(=O)NC"),
    ("C#N", "C(F)(F)F", "OC(F)(F)F"),
)
LINKERS = ("", "C", "CC", "CCC")
DECORATIONS = (
    "F", "Cl", "Br", "C", "CC", "C(C)C", "OC", "OCC", "O", "SC", "C(C)=O", "C(N)=O", "NC(C)=O", "c9ccccc9", "C9CC9",
    "OCc9ccccc9", "C=C", "C#C", "OC(C)C", "C(C)(C)C",
)  # fmt: skip
VARIANTS = len(SCAFFOLDS[0])


def build(scaffold: str, key: str, linker: str, decoration: str) -> str:
    """The canonical SMILES of one combination."""
    molecule = Chem.MolFromSmiles(scaffold.format(K=linker + key, D=decoration))
    return str(Chem.MolToSmiles(molecule))


def draw_molecule(
    world: World, kind: int, subtype: int, rng: np.random.Generator, test: bool
) -> tuple[str, tuple[int, int]]:
    """One random molecule of a class and subtype, and its two parts.

    Under the scaffold split the last scaffold of each group is reserved for the test.
    """
    scaffold_group, key_group = (int(part) for part in world.molecule_parts[kind, subtype])
    scaffolds: tuple[str, ...] = SCAFFOLDS[scaffold_group]
    if world.settings.split == "scaffold":
        scaffolds = scaffolds[-1:] if test else scaffolds[:-1]
    smiles = build(
        scaffolds[rng.integers(len(scaffolds))],
        KEYS[key_group][rng.integers(VARIANTS)],
        LINKERS[rng.integers(len(LINKERS))],
        DECORATIONS[rng.integers(len(DECORATIONS))],
    )
    return smiles, (scaffold_group, key_group)
