"""Conformers: seeded, refused by name where there is none, and what Uni-Mol reads of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from esmerge.core.errors import InputError
from esmerge.specialists.encoders.mol_llama.conformers import MOST_ATOMS, Conformer, conformer, unimol_input
from esmerge.specialists.encoders.mol_llama.graph import ATOM_SIZES, BOND_SIZES, molecular_graph
from esmerge.specialists.encoders.mol_llama.inputs import MoleculeInput, molecule_input
from esmerge.specialists.encoders.mol_llama.unimol import END, START, SYMBOLS

IBUPROFEN = "CC(C)Cc1ccc(cc1)C(C)C(=O)O"


def read(smiles: str, seed: int = 0) -> MoleculeInput:
    return molecule_input(smiles, seed, attempts=50)


def test_a_seed_decides_the_conformer() -> None:
    first, second, other = read(IBUPROFEN), read(IBUPROFEN), read(IBUPROFEN, seed=1)
    assert torch.equal(first.distances, second.distances)
    assert (first.distances - other.distances).abs().max() > 0.1


def test_all_ways_to_write_a_molecule_give_the_same() -> None:
    smiles = Chem.MolToSmiles(Chem.MolFromSmiles("C[C@H](N)C(=O)O"), rootedAtAtom=3)
    first, other = read("C[C@H](N)C(=O)O"), read(smiles)
    assert torch.equal(first.types, other.types) and torch.equal(first.distances, other.distances)
    assert torch.equal(first.graph.atoms, other.graph.atoms) and torch.equal(first.graph.bonds, other.graph.bonds)


def test_distances_are_those_of_a_relaxed_molecule() -> None:
    """Benzene: bonds of 1.39 Å, and the ring's centre, where START and END stand, as far from each carbon."""
    benzene = read("c1ccccc1")
    assert benzene.types.tolist() == [START, *[SYMBOLS.index("C")] * 6, END]
    ring = benzene.distances[1:-1, 1:-1]
    np.testing.assert_allclose(np.sort(ring, axis=1)[:, 1:3], 1.39, atol=0.02)
    np.testing.assert_allclose(benzene.distances[0, 1:-1], 1.39, atol=0.02)
    assert benzene.distances[0, -1] == 0


def test_hydrogens_are_read_only_where_there_is_nothing_else() -> None:
    assert read("[H][H]").types.tolist() == [START, SYMBOLS.index("H"), SYMBOLS.index("H"), END]
    deuterated = read("[2H]C")
    assert deuterated.types.tolist() == [START, SYMBOLS.index("C"), END] and len(deuterated.graph.atoms) == 2


def test_categories_stay_within_their_tables() -> None:
    for smiles in ("[Pt](Cl)(Cl)(N)N", "*CC", "[O-]S(F)(F)(F)(F)F", "C[C@@H](F)/C=C\\Cl", "[CH3]", "[Fe+6]"):
        graph = molecular_graph(smiles, Chem.MolFromSmiles(smiles))
        for features, sizes in ((graph.atoms, ATOM_SIZES), (graph.bond_features, BOND_SIZES)):
            assert ((features >= 0) & (features < torch.tensor(sizes))).all()
    charges = molecular_graph("[Fe+6]", Chem.MolFromSmiles("[Fe+6]")).atoms[:, 3]
    assert charges.tolist() == [11] and charges.tolist()[0] == ATOM_SIZES[3] - 1


def test_a_molecule_without_bonds() -> None:
    graph = read("C").graph
    assert graph.bonds.shape == (2, 0) and graph.bond_features.shape == (0, 3)


@pytest.mark.parametrize("smiles", ["not a molecule", "C1CC", ""])
def test_what_is_no_molecule_is_refused(smiles: str) -> None:
    with pytest.raises(InputError, match=f"SMILES {smiles!r} is not a valid molecule"):
        read(smiles)


def test_a_molecule_that_no_attempt_embeds_is_refused() -> None:
    """A bridged alkene that no geometry fits."""
    smiles = "C1=C2CC1C2"
    assert rdDistGeom.EmbedMolecule(Chem.AddHs(Chem.MolFromSmiles(smiles)), maxAttempts=3, randomSeed=1) == -1
    with pytest.raises(InputError, match=r"has no conformer: RDKit's distance geometry failed 3 times"):
        molecule_input(smiles, 0, attempts=3)


def test_hydrogens_that_do_not_come_back_are_refused() -> None:
    params = Chem.SmilesParserParams()
    params.removeHs = False
    with pytest.raises(InputError, match=r"has 5 atoms, its conformer 1: write it without explicit hydrogens"):
        conformer("C([H])([H])([H])[H]", Chem.MolFromSmiles("C([H])([H])([H])[H]", params), 0, 10)


def test_more_atoms_than_unimol_reads_are_refused() -> None:
    oversized = Conformer(("C",) * (MOST_ATOMS + 1), np.random.default_rng(0).standard_normal((MOST_ATOMS + 1, 3)))
    with pytest.raises(InputError, match=r"SMILES 'C…' has 513 heavy atoms: Uni-Mol reads at most 512"):
        unimol_input("C…", oversized)


def test_a_stereochemistry_without_a_category_is_refused() -> None:
    molecule = Chem.MolFromSmiles("CC")
    molecule.GetBondWithIdx(0).SetStereo(Chem.BondStereo.STEREOATROPCW)
    with pytest.raises(InputError, match=r"SMILES 'CC' has a bond of the stereochemistry STEREOATROPCW"):
        molecular_graph("CC", molecule)
