"""Fixed features against plain counting, and a trunk that learns from them."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esmerge.data.sequences import STANDARD
from esmerge.specialists.families.language_model.encoders import (
    END,
    HASHED,
    LETTERS,
    EncoderSettings,
    kmers,
    load_encoder,
    make_encoder,
    save_encoder,
    train_trunk,
)
from esmerge.specialists.families.language_model.lessons import Lesson

CHAINS = st.text(alphabet=STANDARD + "XUB", min_size=1, max_size=80)
SETTINGS = EncoderSettings(steps=60, batch=16, width=16, tokens=3)


def frequency(words: list[str], word: str) -> float:
    return Counter(words)[word] / len(words) if words else 0.0


@settings(max_examples=40, deadline=None)
@given(CHAINS)
def test_composition_is_that_of_plain_counting(chain: str) -> None:
    found = kmers(chain)
    pairs = [first + second for first, second in zip(chain, chain[1:], strict=False)]
    for place, letter in enumerate(STANDARD):
        assert found[place] == pytest.approx(math.sqrt(frequency(list(chain), letter)), abs=1e-6)
        start = LETTERS + LETTERS**2 + HASHED
        assert found[start + place] == pytest.approx(math.sqrt(frequency(list(chain[:END]), letter)), abs=1e-6)
        assert found[start + LETTERS + place] == pytest.approx(
            math.sqrt(frequency(list(chain[-END:]), letter)), abs=1e-6
        )
        for other, second in enumerate(STANDARD):
            expected = math.sqrt(frequency(pairs, letter + second))
            assert found[LETTERS + place * LETTERS + other] == pytest.approx(expected, abs=1e-6)
    assert found[LETTERS - 1] == pytest.approx(math.sqrt(sum(c not in STANDARD for c in chain) / len(chain)), abs=1e-6)
    assert found[-1] == pytest.approx(math.log(len(chain)) / 10, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(CHAINS)
def test_every_block_has_unit_length(chain: str) -> None:
    sizes = [LETTERS, LETTERS**2, HASHED, LETTERS, LETTERS]
    blocks = np.split(kmers(chain)[:-1], np.cumsum(sizes)[:-1])
    present = [len(chain) >= 1, len(chain) >= 2, len(chain) >= 3, True, True]
    assert [float(np.square(block).sum()) for block in blocks] == pytest.approx([float(p) for p in present], abs=1e-5)


def test_triples_are_spread_over_their_places() -> None:
    rng = np.random.default_rng(0)
    block = kmers("".join(rng.choice(list(STANDARD), 4000)))[LETTERS + LETTERS**2 : -2 * LETTERS - 1]
    assert len(block) == HASHED and (block > 0).mean() > 0.95
    assert np.square(block).max() < 8 / HASHED, "no place holds more than eight times its share"


def lesson() -> Lesson:
    rng = np.random.default_rng(1)
    sides = [
        tuple(tuple("".join(rng.choice(list(letters), 50)) for _ in range(count)) for letters in ("AELK", "VTYI"))
        for count in (40, 20)
    ]
    return Lesson("fold", "protein", "protein", "{protein}", (" Coil", " Beta"), *sides)


def test_a_trunk_tells_held_out_chains_apart_and_survives_the_disk(tmp_path: Path) -> None:
    torch.manual_seed(0)
    embeddings = 0.1 * torch.randn(50, 12)
    taught = lesson()
    encoder = make_encoder("protein", "kmers", SETTINGS, embeddings, 0)
    assert train_trunk(encoder, [taught], SETTINGS, 0, tmp_path / "scratch") < 0.1
    with torch.no_grad():
        one, two = (encoder.features(values) for values in taught.held_out)
    centres = torch.stack([one.mean(dim=0), two.mean(dim=0)])
    nearest = torch.cdist(torch.cat([one, two]), centres).argmin(dim=1)
    assert nearest.tolist() == [0] * len(one) + [1] * len(two)
    save_encoder(encoder, tmp_path)
    again = load_encoder(make_encoder("protein", "kmers", SETTINGS, embeddings, 1), tmp_path)
    assert not any(p.requires_grad for p in again.parameters())
    values = taught.held_out[0][:2]
    for mine, theirs in zip(encoder.encode(values), again.encode(values), strict=True):
        assert mine.shape == (3, 12) and torch.allclose(mine, theirs, atol=1e-6)
