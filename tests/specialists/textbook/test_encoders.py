from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esmerge.core.errors import InputError
from esmerge.specialists.families.textbook.encoders import (
    BITS,
    LONGEST,
    EncoderSettings,
    SoftTokenEncoder,
    load_encoder,
    make_encoder,
    parts_accuracy,
    save_encoder,
    train_encoder,
)
from esmerge.world.entities import world_and_pools
from esmerge.world.world import WorldSettings

SETTINGS = EncoderSettings(steps=40, batch=32, width=16)
VALUES = {
    "molecule": ["CCO", "c1ccccc1C(=O)O", "CC(C)Cc1ccc(cc1)C(C)C(=O)O", "[Na+].[Cl-]"],
    "protein": ["M", "MKTAYIAKQRC", "MKTAYIAKQR" * 7, "GAVLIWFYXU" * 20],
}


def encoder(modality: str) -> SoftTokenEncoder:
    return make_encoder(modality, SETTINGS, hidden=12, seed=0).eval()


@pytest.mark.parametrize("modality", VALUES)
def test_features_do_not_depend_on_the_batch_its_order_or_its_padding(modality: str) -> None:
    values = VALUES[modality]
    together = encoder(modality).features(values)
    reversed_ = encoder(modality).features(values[::-1])
    for index, value in enumerate(values):
        alone = encoder(modality).features([value])[0]
        assert torch.allclose(together[index], alone, atol=1e-5)
        assert torch.allclose(reversed_[-1 - index], alone, atol=1e-5)
    assert len({tuple(row.tolist()) for row in together}) == len(values), "different entities look different"


@settings(max_examples=20, deadline=None)
@given(st.text("ACDEFGHIKLMNPQRSTVWY", min_size=1, max_size=40), st.integers(1, 200))
def test_a_proteins_features_do_not_depend_on_its_neighbours_length(value: str, other: int) -> None:
    alone = encoder("protein").features([value])[0]
    beside = encoder("protein").features([value, "W" * other])[0]
    assert torch.allclose(alone, beside, atol=1e-5)


@pytest.mark.parametrize("modality", VALUES)
def test_soft_tokens_have_their_number_and_width(modality: str) -> None:
    found = encoder(modality).encode(VALUES[modality])
    assert [tuple(tokens.shape) for tokens in found] == [(8, 12)] * len(VALUES[modality])


def test_one_entity_twice_is_one_entity() -> None:
    first, _, again = encoder("molecule").encode(["CCO", "CCN", "CCO"])
    assert torch.equal(first, again)


@pytest.mark.parametrize("value", ["not a molecule", "C1CC", "", " ", "c1ccccc"])
def test_an_invalid_smiles_is_refused_by_name(value: str) -> None:
    with pytest.raises(InputError, match=f"SMILES {value!r} is not a molecule"):
        encoder("molecule").encode(["CCO", value])


def test_a_refused_batch_leaves_the_encoder_usable() -> None:
    ours = encoder("molecule")
    with pytest.raises(InputError):
        ours.encode(["CCO", "not a molecule"])
    assert torch.equal(ours.encode(["CCO"])[0], encoder("molecule").encode(["CCO"])[0])


@pytest.mark.parametrize(
    ("value", "named"),
    [("MK1TA", "'1' at position 3"), ("mkta", "'m' at position 1"), ("MK TA", "' ' at position 3"), ("", "is empty")],
)
def test_a_letter_that_is_no_amino_acid_is_refused_by_name_and_place(value: str, named: str) -> None:
    with pytest.raises(InputError, match=named):
        encoder("protein").encode(["MKTAY", value])


def test_a_chain_longer_than_the_window_is_read_up_to_it() -> None:
    head = "MKTAYIAKQR" * (LONGEST // 10 + 1)
    first, second = head[:LONGEST], head[:LONGEST] + "W" * 50
    features = encoder("protein").features([first, second])
    assert torch.equal(features[0], features[1])


def test_rdkit_keeps_its_log_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    from rdkit import Chem

    encoder("molecule").encode(["CCO"])
    assert capfd.readouterr().err == ""
    Chem.MolFromSmiles("C1CC")
    assert "unclosed ring" in capfd.readouterr().err


@pytest.mark.parametrize("modality", VALUES)
def test_training_teaches_the_parts_and_weights_survive_the_disk(modality: str, tmp_path: Path) -> None:
    sizes = WorldSettings(train_entities=240, validation_entities=12, test_entities=12)
    pool = world_and_pools(0, sizes)[1].train[modality]
    ours = make_encoder(modality, SETTINGS, 12, seed=0)
    before = parts_accuracy(ours, pool)
    train_encoder(ours, pool, SETTINGS, 0, tmp_path / "scratch")
    assert parts_accuracy(ours, pool) > before + 0.1
    save_encoder(ours, tmp_path)
    back = load_encoder(make_encoder(modality, SETTINGS, 12, seed=1), tmp_path)
    assert not any(p.requires_grad for p in back.parameters())
    values = pool.values[:5]
    assert all(torch.equal(a, b) for a, b in zip(back.encode(values), ours.eval().encode(values), strict=True))


def test_fingerprints_have_their_width() -> None:
    assert encoder("molecule").prepare(["CCO", "CCN"]).shape == (2, BITS)
