"""Composition of chains against plain counting."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esmerge.core.errors import InputError
from esmerge.data.sequences import STANDARD
from esmerge.specialists.encoders.kmers import LETTERS, KmerSettings, kmer_encoder, kmers

CHAINS = st.text(alphabet=STANDARD + "XUB", min_size=1, max_size=80)
DEFAULT = KmerSettings()
TRIPLES, ENDS = DEFAULT.triples, DEFAULT.ends


def frequency(words: list[str], word: str) -> float:
    return Counter(words)[word] / len(words) if words else 0.0


@settings(max_examples=40, deadline=None)
@given(CHAINS)
def test_composition_is_that_of_plain_counting(chain: str) -> None:
    composition = kmers(chain, DEFAULT)
    pairs = [first + second for first, second in zip(chain, chain[1:], strict=False)]
    for place, letter in enumerate(STANDARD):
        assert composition[place] == pytest.approx(math.sqrt(frequency(list(chain), letter)), abs=1e-6)
        start = LETTERS + LETTERS**2 + TRIPLES
        assert composition[start + place] == pytest.approx(math.sqrt(frequency(list(chain[:ENDS]), letter)), abs=1e-6)
        assert composition[start + LETTERS + place] == pytest.approx(
            math.sqrt(frequency(list(chain[-ENDS:]), letter)), abs=1e-6
        )
        for other, second in enumerate(STANDARD):
            expected = math.sqrt(frequency(pairs, letter + second))
            assert composition[LETTERS + place * LETTERS + other] == pytest.approx(expected, abs=1e-6)
    assert composition[LETTERS - 1] == pytest.approx(
        math.sqrt(sum(c not in STANDARD for c in chain) / len(chain)), abs=1e-6
    )
    assert composition[-1] == pytest.approx(math.log(len(chain)) / 10, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(CHAINS)
def test_every_block_has_unit_length(chain: str) -> None:
    sizes = [LETTERS, LETTERS**2, TRIPLES, LETTERS, LETTERS]
    blocks = np.split(kmers(chain, DEFAULT)[:-1], np.cumsum(sizes)[:-1])
    present = [len(chain) >= 1, len(chain) >= 2, len(chain) >= 3, True, True]
    assert [float(np.square(block).sum()) for block in blocks] == pytest.approx([float(p) for p in present], abs=1e-5)


def test_triples_are_spread_over_their_places() -> None:
    rng = np.random.default_rng(0)
    block = kmers("".join(rng.choice(list(STANDARD), 4000)), DEFAULT)[LETTERS + LETTERS**2 : -2 * LETTERS - 1]
    assert len(block) == TRIPLES and (block > 0).mean() > 0.95
    assert np.square(block).max() < 8 / TRIPLES, "no place holds more than eight times its share"


def test_places_of_triples_and_length_of_ends_are_settings() -> None:
    chain = "MKTAYIAKQRCWW"
    few = kmers(chain, KmerSettings(triples=16, ends=2))
    assert len(few) == LETTERS**2 + 3 * LETTERS + 16 + 1
    first = few[LETTERS + LETTERS**2 + 16 :][:LETTERS]
    assert {letter for letter, share in zip(STANDARD, first, strict=False) if share > 0} == {"M", "K"}
    assert kmer_encoder(KmerSettings(triples=16, ends=2)).prepare([chain, "M"]).tolist()[0] == few.tolist()


def test_an_invalid_chain_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="'1' at position 3"):
        kmer_encoder(DEFAULT).prepare(["MKT", "MK1A"])
