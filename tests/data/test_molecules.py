from __future__ import annotations

import numpy as np
import pytest
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator

from esmerge.core.errors import InputError
from esmerge.data.molecules import canonical_smiles, fingerprint


@pytest.mark.parametrize(
    ("first", "second"), [("OCC", "CCO"), ("c1ccccc1", "C1=CC=CC=C1"), ("C[C@H](N)O", "O[C@H](C)N")]
)
def test_two_ways_to_write_a_molecule_have_one_canonical_form(first: str, second: str) -> None:
    assert canonical_smiles(first) == canonical_smiles(second)


def test_stereochemistry_is_kept() -> None:
    assert canonical_smiles("C[C@H](N)O") != canonical_smiles("C[C@@H](N)O")


@pytest.mark.parametrize("smiles", ["", "C1CC", "c1cccc1", "not a molecule", "CCO ethanol", "C(C)(C)(C)(C)C"])
def test_an_invalid_smiles_is_named_and_rdkit_is_silent(smiles: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError) as error:
        canonical_smiles(smiles)
    assert repr(smiles) in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_fingerprint_similarity_is_rdkits() -> None:
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    pair = ["CC(=O)Oc1ccccc1C(=O)O", "O=C(O)c1ccccc1O"]
    expected = DataStructs.TanimotoSimilarity(*(generator.GetFingerprint(Chem.MolFromSmiles(s)) for s in pair))
    a, b = (fingerprint(smiles) for smiles in pair)
    assert a.shape == (2048,)
    assert np.minimum(a, b).sum() / np.maximum(a, b).sum() == pytest.approx(expected)


def test_fingerprint_of_an_invalid_smiles_is_refused() -> None:
    with pytest.raises(InputError, match="C1CC"):
        fingerprint("C1CC")
