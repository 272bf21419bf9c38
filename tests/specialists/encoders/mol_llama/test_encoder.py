"""The encoder: 8 soft tokens a molecule, and a count of the molecules that it cannot read."""

from __future__ import annotations

import pytest
import torch
from tests.specialists.encoders.mol_llama.miniature import Sizes, encoder, prefixed, projector, weights

from esmerge.core.errors import InputError
from esmerge.model.encoder import ModalityEncoder
from esmerge.specialists.encoders.mol_llama.encoder import MolLlamaEncoder, encode
from esmerge.specialists.encoders.mol_llama.loading import load_network

HIDDEN = 20
BRIDGED = "C1=C2CC1C2"  # no geometry fits its double bond


@pytest.fixture(scope="module")
def molecules() -> MolLlamaEncoder:
    sizes = Sizes(hidden=HIDDEN)
    tensors = weights(prefixed("encoder.", encoder(sizes)) | projector(sizes), 3)
    return MolLlamaEncoder("molecule", load_network(tensors, "the release"), attempts=3)


def test_eight_soft_tokens_for_each_molecule(molecules: MolLlamaEncoder) -> None:
    assert isinstance(molecules, ModalityEncoder)
    encoded = molecules.encode(["CCO", "CCN", "OCC", "CCO"])
    assert [tuple(tokens.shape) for tokens in encoded] == [(8, HIDDEN)] * 4
    assert torch.equal(encoded[0], encoded[2]) and torch.equal(encoded[0], encoded[3])
    assert (encoded[0] - encoded[1]).abs().max() > 1e-3
    assert torch.equal(molecules.encode(["CCN"])[0], encoded[1])


def test_the_seed_of_the_conformer_counts(molecules: MolLlamaEncoder) -> None:
    first, again, other = (encode(molecules.network, "CCCCCO", seed, 3) for seed in (0, 0, 1))
    assert torch.equal(first, again) and (first - other).abs().max() > 1e-5


def test_molecules_that_cannot_be_read_are_counted(molecules: MolLlamaEncoder) -> None:
    with pytest.raises(InputError) as caught:
        molecules.encode(["CCO", BRIDGED, "C1CC", BRIDGED])
    message = str(caught.value)
    assert message.startswith("2 of 3 molecules cannot be encoded")
    assert f"SMILES '{BRIDGED}' has no conformer" in message and "SMILES 'C1CC' is not a valid molecule" in message
