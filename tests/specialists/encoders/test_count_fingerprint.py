"""Counted fingerprints: counts against RDKit's own, the logarithm, what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator

from esmerge.core.errors import InputError
from esmerge.specialists.encoders.count_fingerprint import count_fingerprint
from esmerge.specialists.encoders.fingerprint import FingerprintSettings

VALUES = ["CCCCCC", "c1ccccc1C(=O)O", "[Na+].[Cl-]"]
ENCODER = count_fingerprint(FingerprintSettings(radius=1, bits=256))


def test_counts_are_rdkits_under_a_logarithm() -> None:
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=1, fpSize=256)
    for row, value in zip(ENCODER.prepare(VALUES), VALUES, strict=True):
        expected = [0.0] * 256
        for bit, count in generator.GetCountFingerprint(Chem.MolFromSmiles(value)).GetNonzeroElements().items():
            expected[bit] = math.log(1 + count)
        assert torch.allclose(row, torch.tensor(expected))


def test_chains_of_different_length_differ_where_bits_are_alike() -> None:
    short, long = ENCODER.prepare(["CCCCCC", "CCCCCCCCC"])
    assert torch.equal(short > 0, long > 0) and not torch.equal(short, long)


def test_an_invalid_smiles_is_refused_by_name_and_the_read_form_is_canonical() -> None:
    assert ENCODER.check("OCC") == "CCO"
    with pytest.raises(InputError, match="'C1CC' is not a valid molecule"):
        ENCODER.prepare(["CCO", "C1CC"])
