"""A conformer of a molecule, seeded, and what Uni-Mol reads of it.

RDKit's distance geometry (Riniker and Landrum, J. Chem. Inf. Model. 55 (2015) 2562) with hydrogens, then MMFF94, then
without hydrogens, as Mol-LLaMA does it. Where that fails Mol-LLaMA asks Open Babel; here the molecule is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
from rdkit.rdBase import BlockLogs
from torch import Tensor

from esmerge.core.errors import InputError
from esmerge.specialists.encoders.mol_llama.unimol import END, START, SYMBOLS, UNKNOWN

MOST_ATOMS = 512  # that Uni-Mol was trained with; Mol-LLaMA leaves out a random part of larger molecules
HYDROGEN = "H"
TYPES = {symbol: number for number, symbol in enumerate(SYMBOLS)}


@dataclass(frozen=True)
class Conformer:
    """Atoms in space.

    Attributes:
        symbols: of the n elements.
        positions: (n, 3) in Å.
    """

    symbols: tuple[str, ...]
    positions: NDArray[np.float64]


def conformer(smiles: str, molecule: Chem.Mol, seed: int, attempts: int) -> Conformer:
    """One conformer, in the order of the molecule's atoms.

    Args:
        smiles: for messages.
        molecule: as RDKit read it.
        seed: of the distance geometry; the same seed and version of RDKit give the same conformer.
        attempts: of the distance geometry, each from other random distances.

    Raises:
        InputError: no attempt leads to a conformer, or hydrogens that the SMILES names do not come back.
    """
    with BlockLogs():  # which atoms a force field does not know: it then leaves the conformer as it is
        full = Chem.AddHs(molecule)
        number = seed + 1  # RDKit takes 0 for 1
        if rdDistGeom.EmbedMolecule(full, maxAttempts=attempts, randomSeed=number) < 0:
            raise InputError(f"SMILES {smiles!r} has no conformer: RDKit's distance geometry failed {attempts} times")
        rdForceFieldHelpers.MMFFOptimizeMolecule(full)
        heavy = Chem.RemoveHs(full)
    if heavy.GetNumAtoms() != molecule.GetNumAtoms():
        raise InputError(
            f"SMILES {smiles!r} has {molecule.GetNumAtoms()} atoms, its conformer {heavy.GetNumAtoms()}: write it "
            "without explicit hydrogens"
        )
    return Conformer(
        tuple(atom.GetSymbol() for atom in heavy.GetAtoms()), np.array(heavy.GetConformer().GetPositions())
    )


def without_hydrogens(whole: Conformer) -> Conformer:
    """The other atoms alone; all where there are no others."""
    rows = [row for row, symbol in enumerate(whole.symbols) if symbol != HYDROGEN]
    return Conformer(tuple(whole.symbols[row] for row in rows), whole.positions[rows]) if rows else whole


def unimol_input(smiles: str, whole: Conformer) -> tuple[Tensor, Tensor]:
    """What Uni-Mol reads of a conformer: types of its atoms and distances between them.

    ``START`` and ``END`` are put before and behind, both at the atoms' centre. An element that the dictionary lacks is
    ``UNKNOWN``.

    Returns:
        (n + 2,) int64, and (n + 2, n + 2) in Å.

    Raises:
        InputError: there are more atoms than Uni-Mol reads.
    """
    atoms = without_hydrogens(whole)
    if len(atoms.symbols) > MOST_ATOMS:
        raise InputError(
            f"SMILES {smiles!r} has {len(atoms.symbols)} heavy atoms: Uni-Mol reads at most {MOST_ATOMS}; leave it out"
        )
    types = torch.tensor([START, *(TYPES.get(symbol, UNKNOWN) for symbol in atoms.symbols), END])
    centred = atoms.positions - atoms.positions.mean(axis=0)
    points = np.pad(centred, ((1, 1), (0, 0)))
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    return types, torch.from_numpy(distances).float()
