"""Molecules: SMILES in, one canonical SMILES per molecule out."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator
from rdkit.rdBase import BlockLogs

from src.errors import InputError

RADIUS, BITS = 2, 2048  # the Morgan fingerprint that the paper's few-shot choice and most published baselines use


@lru_cache(maxsize=200_000)
def canonical_smiles(smiles: str) -> str:
    """RDKit's canonical isomeric SMILES, equal for all ways to write one molecule.

    Raises:
        InputError: not a molecule, or more than one word (RDKit would read the rest as the molecule's name).
    """
    molecule = None if not smiles or len(smiles.split()) != 1 else _parse(smiles)
    if molecule is None or molecule.GetNumAtoms() == 0:
        raise InputError(f"SMILES {smiles!r} is not a valid molecule: RDKit cannot read it; correct or remove it")
    return str(Chem.MolToSmiles(molecule))


@lru_cache(maxsize=20_000)
def fingerprint_bits(smiles: str, radius: int = RADIUS, bits: int = BITS) -> tuple[int, ...]:
    """Indices of the Morgan fingerprint's set bits."""
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=radius, fpSize=bits)
    molecule = _parse(smiles)
    if molecule is None:
        raise InputError(f"SMILES {smiles!r} is not a valid molecule: RDKit cannot read it; correct or remove it")
    return tuple(generator.GetFingerprint(molecule).GetOnBits())


def fingerprint(smiles: str, radius: int = RADIUS, bits: int = BITS) -> NDArray[np.float32]:
    """Morgan fingerprint as zeros and ones, (bits,)."""
    vector = np.zeros(bits, dtype=np.float32)
    vector[list(fingerprint_bits(smiles, radius, bits))] = 1.0
    return vector


def _parse(smiles: str) -> Chem.Mol | None:
    with BlockLogs():  # what RDKit prints for a bad SMILES is said again, with the SMILES, by the error
        return Chem.MolFromSmiles(smiles)
