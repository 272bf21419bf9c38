"""Molecules: SMILES in, one canonical SMILES per molecule out."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator
from rdkit.Chem.Scaffolds.MurckoScaffold import MurckoScaffoldSmiles
from rdkit.DataStructs import ExplicitBitVect
from rdkit.rdBase import BlockLogs

from esmerge.core.errors import InputError

RADIUS, BITS = 2, 2048  # the Morgan fingerprint that the paper's few-shot choice and most published baselines use


@lru_cache(maxsize=200_000)
def canonical_smiles(smiles: str) -> str:
    """RDKit's canonical isomeric SMILES, equal for all ways to write one molecule, with atom maps (which number the
    atoms of a reaction) left out.

    Raises:
        InputError: not a molecule, or more than one word (RDKit would read the rest as the molecule's name).
    """
    molecule = _valid(smiles)
    if not any(atom.GetAtomMapNum() for atom in molecule.GetAtoms()):
        return str(Chem.MolToSmiles(molecule))
    for atom in molecule.GetAtoms():
        atom.SetAtomMapNum(0)
    return str(Chem.MolToSmiles(_valid(Chem.MolToSmiles(molecule))))  # read again: mapped hydrogens are atoms till then


@lru_cache(maxsize=200_000)
def scaffold(smiles: str) -> str:
    """Bemis-Murcko scaffold, without stereochemistry; a molecule without rings is its own scaffold.

    Rings with what links them: Bemis and Murcko, J. Med. Chem. 39 (1996) 2887.

    Args:
        smiles: canonical, so that a molecule without rings has one name.
    """
    return str(MurckoScaffoldSmiles(mol=_valid(smiles))) or smiles


@lru_cache(maxsize=20_000)
def fingerprint_bits(smiles: str, radius: int = RADIUS, bits: int = BITS) -> tuple[int, ...]:
    """Indices of the Morgan fingerprint's set bits."""
    return tuple(bit_vector(smiles, radius, bits).GetOnBits())


def bit_vector(smiles: str, radius: int = RADIUS, bits: int = BITS) -> ExplicitBitVect:
    """Morgan fingerprint as RDKit compares it in bulk."""
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=radius, fpSize=bits)
    vector: ExplicitBitVect = generator.GetFingerprint(_valid(smiles))
    return vector


def fingerprint(smiles: str, radius: int = RADIUS, bits: int = BITS) -> NDArray[np.float32]:
    """Morgan fingerprint as zeros and ones, (bits,)."""
    vector = np.zeros(bits, dtype=np.float32)
    vector[list(fingerprint_bits(smiles, radius, bits))] = 1.0
    return vector


def substructure_counts(smiles: str, radius: int = RADIUS, bits: int = BITS) -> NDArray[np.float32]:
    """How often each folded Morgan substructure occurs, (bits,)."""
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=radius, fpSize=bits)
    counts: NDArray[np.float32] = generator.GetCountFingerprintAsNumPy(_valid(smiles)).astype(np.float32)
    return counts


def _valid(smiles: str) -> Chem.Mol:
    with BlockLogs():  # what RDKit prints for a bad SMILES is repeated, with the SMILES, by the error
        molecule = Chem.MolFromSmiles(smiles) if len(smiles.split()) == 1 else None
    if molecule is None or molecule.GetNumAtoms() == 0:
        raise InputError(f"SMILES {smiles!r} is not a valid molecule: RDKit cannot read it; correct or remove it")
    return molecule
