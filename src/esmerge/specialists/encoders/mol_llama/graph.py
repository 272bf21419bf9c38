"""A molecule as a graph of categorical features, as MoleculeSTM was trained on them.

The features are those of OGB 1.3.5 (Hu et al., Open Graph Benchmark, NeurIPS 2020), each an index into its categories;
the last category of an atom's feature takes what is in no other.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from rdkit import Chem
from torch import Tensor

from esmerge.core.errors import InputError

OTHER = "other"
ATOMIC_NUMBERS = (*range(1, 119), OTHER)
CHIRALITY = ("CHI_UNSPECIFIED", "CHI_TETRAHEDRAL_CW", "CHI_TETRAHEDRAL_CCW", "CHI_OTHER")
DEGREES = (*range(11), OTHER)  # hydrogens count
CHARGES = (*range(-5, 6), OTHER)
HYDROGENS = (*range(9), OTHER)
RADICALS = (*range(5), OTHER)
HYBRIDISATIONS = ("SP", "SP2", "SP3", "SP3D", "SP3D2", OTHER)
NO_YES = (False, True)
BOND_TYPES = ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC", OTHER)
BOND_STEREO = ("STEREONONE", "STEREOZ", "STEREOE", "STEREOCIS", "STEREOTRANS", "STEREOANY")

ATOM_SIZES = tuple(
    map(len, (ATOMIC_NUMBERS, CHIRALITY, DEGREES, CHARGES, HYDROGENS, RADICALS, HYBRIDISATIONS, NO_YES, NO_YES))
)
BOND_SIZES = tuple(map(len, (BOND_TYPES, BOND_STEREO, NO_YES)))


@dataclass(frozen=True)
class MolecularGraph:
    """A molecule, or several beside one another.

    Attributes:
        atoms: (n, 9) int64, categories of each atom.
        bonds: (2, m) int64, atoms that a bond leads from and to; every bond stands in both directions.
        bond_features: (m, 3) int64, categories of each bond.
    """

    atoms: Tensor
    bonds: Tensor
    bond_features: Tensor


def molecular_graph(smiles: str, molecule: Chem.Mol) -> MolecularGraph:
    """The graph of a molecule that RDKit read.

    Args:
        smiles: for messages.
        molecule: without the hydrogens that the SMILES leaves out.

    Raises:
        InputError: a bond has a stereochemistry that the network has no category for.
    """
    atoms = torch.tensor([_atom(atom) for atom in molecule.GetAtoms()])
    ends: list[tuple[int, int]] = []
    features: list[tuple[int, int, int]] = []
    for bond in molecule.GetBonds():
        begin, end = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        ends += [(begin, end), (end, begin)]
        features += [_bond(smiles, bond)] * 2
    return MolecularGraph(
        atoms,
        torch.tensor(ends, dtype=torch.int64).reshape(-1, 2).T,
        torch.tensor(features, dtype=torch.int64).reshape(-1, len(BOND_SIZES)),
    )


def _atom(atom: Chem.Atom) -> tuple[int, ...]:
    return (
        _category(ATOMIC_NUMBERS, atom.GetAtomicNum()),
        _category(CHIRALITY, str(atom.GetChiralTag())),
        _category(DEGREES, atom.GetTotalDegree()),
        _category(CHARGES, atom.GetFormalCharge()),
        _category(HYDROGENS, atom.GetTotalNumHs()),
        _category(RADICALS, atom.GetNumRadicalElectrons()),
        _category(HYBRIDISATIONS, str(atom.GetHybridization())),
        NO_YES.index(atom.GetIsAromatic()),
        NO_YES.index(atom.IsInRing()),
    )


def _bond(smiles: str, bond: Chem.Bond) -> tuple[int, int, int]:
    stereo = str(bond.GetStereo())
    if stereo not in BOND_STEREO:
        raise InputError(
            f"SMILES {smiles!r} has a bond of the stereochemistry {stereo}, for which Mol-LLaMA has no category: "
            f"expected {', '.join(BOND_STEREO)}; leave the molecule out"
        )
    kind = _category(BOND_TYPES, str(bond.GetBondType()))
    return kind, BOND_STEREO.index(stereo), NO_YES.index(bond.GetIsConjugated())


def _category(categories: Sequence[Hashable], value: Hashable) -> int:
    return categories.index(value) if value in categories else len(categories) - 1
