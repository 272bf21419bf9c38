"""From SMILES to what the two encoders read, and several molecules beside one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rdkit import Chem
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from esmerge.data.molecules import canonical_smiles
from esmerge.specialists.encoders.mol_llama.conformers import conformer, unimol_input
from esmerge.specialists.encoders.mol_llama.graph import MolecularGraph, molecular_graph
from esmerge.specialists.encoders.mol_llama.unimol import PAD


@dataclass(frozen=True)
class MoleculeInput:
    """A molecule as both encoders read it.

    Attributes:
        types: (n + 2,) int64, atoms in Uni-Mol's dictionary.
        distances: (n + 2, n + 2) in Å.
        graph: atoms and bonds.
    """

    types: Tensor
    distances: Tensor
    graph: MolecularGraph


def molecule_input(smiles: str, seed: int, attempts: int) -> MoleculeInput:
    """A molecule as both encoders read it.

    It is read from its canonical SMILES, so that all ways to write it give the same: the order of atoms decides which
    conformer a seed leads to, and which of two tags a stereocentre gets.

    Raises:
        InputError: the SMILES is no molecule, or it has no conformer or no graph that the encoders read.
    """
    canonical = canonical_smiles(smiles)
    molecule = Chem.MolFromSmiles(canonical)
    graph = molecular_graph(smiles, molecule)
    types, distances = unimol_input(smiles, conformer(smiles, molecule, seed, attempts))
    return MoleculeInput(types, distances, graph)


@dataclass(frozen=True)
class Batch:
    """Several molecules.

    Attributes:
        types: (b, n) int64, ``PAD`` behind a molecule's atoms.
        distances: (b, n, n) in Å, zero there.
        graphs: of each molecule.
    """

    types: Tensor
    distances: Tensor
    graphs: tuple[MolecularGraph, ...]


def batched(molecules: Sequence[MoleculeInput]) -> Batch:
    """Molecules beside one another, as long as the longest."""
    types = pad_sequence([molecule.types for molecule in molecules], batch_first=True, padding_value=PAD)
    distances = torch.zeros(*types.shape, types.shape[1])
    for row, molecule in zip(distances, molecules, strict=True):
        size = len(molecule.types)
        row[:size, :size] = molecule.distances
    return Batch(types, distances, tuple(molecule.graph for molecule in molecules))
