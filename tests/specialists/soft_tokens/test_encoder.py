"""Soft-token encoders: their shape, their memory, and a trunk that learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from esmerge.core.errors import InputError
from esmerge.specialists.families.language_model import teaching
from esmerge.specialists.families.language_model.lessons import Lesson
from esmerge.specialists.families.textbook import perception
from esmerge.specialists.soft_tokens.api import choose_encoder
from esmerge.specialists.soft_tokens.encoder import SoftTokenEncoder, drawn_from, load_encoder, save_encoder
from esmerge.specialists.soft_tokens.settings import EncoderSettings
from esmerge.specialists.soft_tokens.training import train_trunk
from esmerge.world.entities import world_and_pools
from esmerge.world.world import WorldSettings

SETTINGS = EncoderSettings(steps=40, batch=32, rate=3e-3, weight_decay=0.01, width=16, tokens=3)
VALUES = {
    "small_fingerprint": ["CCO", "c1ccccc1C(=O)O", "CC(C)Cc1ccc(cc1)C(C)C(=O)O", "[Na+].[Cl-]"],
    "fingerprint": ["CCO", "c1ccccc1C(=O)O", "CC(C)Cc1ccc(cc1)C(C)C(=O)O", "[Na+].[Cl-]"],
    "motif_convolution": ["M", "MKTAYIAKQRC", "MKTAYIAKQR" * 7, "GAVLIWFYXU" * 20],
    "kmers": ["M", "MKTAYIAKQRC", "MKTAYIAKQR" * 7, "GAVLIWFYXU" * 20],
    "ranked_genes": ["CD3D", "CD3D CD3E IL7R", "IL7R CD3E CD3D", "LYZ CST3 HLA-DRA C6orf48"],
}


def make(name: str, rms: float | None = None, seed: int = 0) -> SoftTokenEncoder:
    features = choose_encoder(name, "encoder").features()
    with drawn_from(seed):
        return SoftTokenEncoder("drug", features, features.trunk(16), 16, 3, 12, rms).eval()


@pytest.mark.parametrize("name", VALUES)
def test_features_do_not_depend_on_the_batch_its_order_or_its_padding(name: str) -> None:
    values = VALUES[name]
    together = make(name).features(values)
    reversed_ = make(name).features(values[::-1])
    for index, value in enumerate(values):
        expected = make(name).features([value])[0]
        assert torch.allclose(together[index], expected, atol=1e-5)
        assert torch.allclose(reversed_[-1 - index], expected, atol=1e-5)
    assert len({tuple(row.tolist()) for row in together}) == len(values), "different entities look different"


@pytest.mark.parametrize("name", VALUES)
def test_soft_tokens_have_their_number_width_and_length(name: str) -> None:
    for tokens in make(name, rms=0.25).encode(VALUES[name]):
        assert tokens.shape == (3, 12)
        assert tokens.square().mean(dim=1).sqrt().tolist() == pytest.approx([0.25] * 3, rel=1e-3)


def test_without_a_length_soft_tokens_are_as_they_are_projected() -> None:
    encoder = make("kmers")
    (tokens,) = encoder.encode(["MKTAY"])
    assert torch.equal(tokens.flatten(), encoder.projector(encoder.features(["MKTAY"]))[0])


def test_one_entity_twice_is_one_entity() -> None:
    first, _, third = make("fingerprint").encode(["CCO", "CCN", "CCO"])
    assert torch.equal(first, third)


def test_a_refused_batch_leaves_the_encoder_usable() -> None:
    encoder = make("fingerprint")
    with pytest.raises(InputError):
        encoder.encode(["CCO", "not a molecule"])
    assert torch.equal(encoder.encode(["CCO"])[0], make("fingerprint").encode(["CCO"])[0])


def test_weights_are_those_of_the_seed_and_torchs_own_stream_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second, other = make("kmers"), make("kmers"), make("kmers", seed=1)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first.projector.weight, second.projector.weight)
    assert not torch.equal(first.projector.weight, other.projector.weight)


@pytest.mark.parametrize("modality", ["molecule", "protein"])
def test_training_teaches_the_parts_and_weights_survive_the_disk(modality: str, tmp_path: Path) -> None:
    sizes = WorldSettings(train_entities=240, validation_entities=12, test_entities=12)
    pool = world_and_pools(0, sizes)[1].train[modality]
    name = {"molecule": "small_fingerprint", "protein": "motif_convolution"}[modality]
    features = choose_encoder(name, "encoder").features()
    draw = perception.parts_encoder(modality, features, SETTINGS, 12, seed=0)
    encoder, heads = draw()
    before = perception.parts_accuracy(encoder, heads, pool)
    train_trunk(encoder, heads, perception.parts_task(pool, pool, SETTINGS, 0), SETTINGS, 0, tmp_path / "scratch")
    assert perception.parts_accuracy(encoder, heads, pool) > before + 0.1
    survives(encoder, draw, pool.values[:5], tmp_path)


def survives(encoder: SoftTokenEncoder, draw: Callable, values: tuple[str, ...], folder: Path) -> None:
    """Weights that are written and read again give the same soft tokens, and are frozen."""
    save_encoder(encoder, folder)
    loaded = load_encoder(draw()[0], folder)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    for tokens, loaded_tokens in zip(encoder.eval().encode(values), loaded.encode(values), strict=True):
        assert torch.allclose(tokens, loaded_tokens, atol=1e-6)


def lesson() -> Lesson:
    rng = np.random.default_rng(1)
    sides = [
        tuple(tuple("".join(rng.choice(list(letters), 50)) for _ in range(count)) for letters in ("AELK", "VTYI"))
        for count in (40, 20)
    ]
    return Lesson("fold", "protein", "protein", "{protein}", (" Coil", " Beta"), *sides)


def test_a_trunk_tells_held_out_chains_apart(tmp_path: Path) -> None:
    torch.manual_seed(0)
    embeddings = 0.1 * torch.randn(50, 12)
    fold, settings = lesson(), EncoderSettings(steps=60, batch=16, width=16, tokens=3)
    features = choose_encoder("kmers", "encoder").features()
    draw = teaching.answers_encoder("protein", features, [fold], settings, embeddings, 0)
    encoder, heads = draw()
    task = teaching.answers_task([fold], settings, 0)
    assert train_trunk(encoder, heads, task, settings, 0, tmp_path / "scratch") < 0.1
    with torch.no_grad():
        first, second = (encoder.features(values) for values in fold.held_out)
    centres = torch.stack([first.mean(dim=0), second.mean(dim=0)])
    nearest = torch.cdist(torch.cat([first, second]), centres).argmin(dim=1)
    assert nearest.tolist() == [0] * len(first) + [1] * len(second)
    survives(encoder, draw, fold.held_out[0][:2], tmp_path)
