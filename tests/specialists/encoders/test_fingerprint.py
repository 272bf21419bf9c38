"""Both fingerprint encoders: bits against RDKit's own, what is refused, what the log holds."""

from __future__ import annotations

import pytest
import torch
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator

from esmerge.core.errors import ConfigError, InputError
from esmerge.specialists.encoders.fingerprint import FingerprintSettings, fingerprint_encoder
from esmerge.specialists.encoders.small_fingerprint import SmallFingerprintSettings, small_fingerprint
from esmerge.specialists.soft_tokens.api import FeatureEncoder

VALUES = ["CCO", "c1ccccc1C(=O)O", "CC(C)Cc1ccc(cc1)C(C)C(=O)O", "[Na+].[Cl-]"]
ENCODERS = {
    "fingerprint": fingerprint_encoder(FingerprintSettings(radius=1, bits=64)),
    "small_fingerprint": small_fingerprint(SmallFingerprintSettings(radius=1, bits=64)),
}


@pytest.fixture(params=ENCODERS)
def encoder(request: pytest.FixtureRequest) -> FeatureEncoder:
    return ENCODERS[request.param]


def test_bits_are_rdkits(encoder: FeatureEncoder) -> None:
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=1, fpSize=64)
    rows = [generator.GetFingerprintAsNumPy(Chem.MolFromSmiles(value)) for value in VALUES]
    assert encoder.prepare(VALUES).tolist() == [row.tolist() for row in rows]


def test_the_form_that_is_read_is_canonical(encoder: FeatureEncoder) -> None:
    assert encoder.check("OCC") == encoder.check("C(C)O") == "CCO"


def test_the_trunk_has_its_width_and_tells_molecules_apart(encoder: FeatureEncoder) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        features = encoder.trunk(16)(encoder.prepare(VALUES))
    assert features.shape == (4, 16) and len({tuple(row.tolist()) for row in features}) == 4


@pytest.mark.parametrize("value", ["not a molecule", "C1CC", "", " ", "c1ccccc"])
def test_an_invalid_smiles_is_refused_by_name(encoder: FeatureEncoder, value: str) -> None:
    for read in (encoder.check, lambda text: encoder.prepare(["CCO", text])):
        with pytest.raises(InputError, match=f"SMILES {value!r} is not a valid molecule"):
            read(value)


def test_rdkit_keeps_its_log_as_it_was(encoder: FeatureEncoder, capfd: pytest.CaptureFixture[str]) -> None:
    encoder.prepare(["CCO"])
    with pytest.raises(InputError):
        encoder.prepare(["C1CC"])
    assert capfd.readouterr().err == ""
    Chem.MolFromSmiles("C1CC")
    assert "unclosed ring" in capfd.readouterr().err


def test_sizes_out_of_range_are_refused() -> None:
    for settings in (FingerprintSettings, SmallFingerprintSettings):
        with pytest.raises(ConfigError, match="bits=0: expected a number from 1"):
            settings(bits=0)
        with pytest.raises(ConfigError, match="radius=-1: expected a number from 0"):
            settings(radius=-1)
