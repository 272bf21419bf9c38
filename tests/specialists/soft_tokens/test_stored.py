"""Soft tokens of a released encoder are made once, and the encoder is in memory only while something is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.small import TableEncoder
from torch import Tensor

from esmerge.core.errors import InputError, NumberError
from esmerge.core.prompts import Entity
from esmerge.specialists.soft_tokens.released import Encode, Inspection, ReleasedEncoder
from esmerge.specialists.soft_tokens.stored import KIND, StoredEncoder, prepare_encoders, release_encoders
from esmerge.storage.cache import Cache


class Release:
    """An encoder that counts: one soft token per letter, which holds the letter's number."""

    def __init__(self, digest: str = "weights") -> None:
        self.loads, self.encoded, self._digest = 0, list[str](), digest

    def check(self, value: str) -> str:
        if not value.isalpha():
            raise InputError(f"{value!r} is no word")
        return value.lower()

    def load(self, device: torch.device) -> Encode:
        self.loads += 1

        def encode(value: str) -> Tensor:
            if value.startswith("q"):
                raise InputError(f"{value!r} cannot be pronounced")
            self.encoded.append(value)
            return torch.tensor([[float(ord(letter)) if letter != "z" else torch.nan] for letter in value])

        return encode

    def stored(self, root: Path) -> StoredEncoder:
        released = ReleasedEncoder(self.check, lambda: 1, lambda: self._digest, self.load)
        return StoredEncoder("protein", released, Cache(root), "cpu")


def letters(tokens: list[Tensor]) -> list[str]:
    return ["".join(chr(int(number)) for number in matrix[:, 0]) for matrix in tokens]


def test_each_entity_is_encoded_once_in_all(tmp_path: Path) -> None:
    release = Release()
    encoder = release.stored(tmp_path)
    assert letters(encoder.encode(["ab", "cde", "AB"])) == ["ab", "cde", "ab"]
    assert letters(encoder.encode(["cde", "f"])) == ["cde", "f"]
    assert release.encoded == ["ab", "cde", "f"] and release.loads == 1
    later = Release()
    assert letters(later.stored(tmp_path).encode(["f", "ab"])) == ["f", "ab"]
    assert later.loads == 0, "what the cache holds needs no encoder"
    assert len(list((tmp_path / KIND).glob("*/soft_tokens.safetensors"))) == 3


def test_entities_that_the_encoder_refuses_are_counted_and_all_others_stored(tmp_path: Path) -> None:
    release = Release()
    with pytest.raises(
        InputError, match=r"^2 of 4 entities \(protein\) cannot be encoded, .*\n  'qa' cannot .*\n  'qb'"
    ):
        release.stored(tmp_path).encode(["ab", "qa", "c", "qb", "QA"])
    assert release.encoded == ["ab", "c"]
    later = Release()
    assert letters(later.stored(tmp_path).encode(["ab", "c"])) == ["ab", "c"] and later.loads == 0
    with pytest.raises(InputError, match=r"^23 of 23 entities(.|\n)* and 3 more$"):
        later.stored(tmp_path).encode(["q" + letter for letter in "abcdefghijklmnopqrstuvw"])


def test_when_the_encoder_is_in_memory(tmp_path: Path) -> None:
    release = Release()
    encoder = release.stored(tmp_path)
    assert not encoder.resident
    encoder.encode(["ab"])
    assert encoder.resident, "more may be missing"
    encoder.encode(["ab"])
    assert not encoder.resident, "nothing was"
    encoder.encode(["c"])
    release_encoders([TableEncoder("molecule", 1), encoder])
    assert not encoder.resident and release.loads == 2


def test_other_weights_make_other_soft_tokens(tmp_path: Path) -> None:
    Release().stored(tmp_path).encode(["ab"])
    other = Release("other weights")
    other.stored(tmp_path).encode(["ab"])
    assert other.encoded == ["ab"]


def test_an_invalid_value_is_refused_before_anything_is_encoded(tmp_path: Path) -> None:
    release = Release()
    with pytest.raises(InputError, match="'4' is no word"):
        release.stored(tmp_path).encode(["ab", "4"])
    assert release.loads == 0


def test_what_is_no_number_is_not_stored(tmp_path: Path) -> None:
    encoder = Release().stored(tmp_path)
    with pytest.raises(NumberError, match="protein 'z' has soft tokens that are NaN or infinite"):
        encoder.encode(["ab", "z"])
    assert letters(encoder.encode(["ab"])) == ["ab"]
    assert len(list((tmp_path / KIND).glob("*/soft_tokens.safetensors"))) == 1


def test_what_is_refused_is_told_without_the_weights_and_looked_at_once(tmp_path: Path) -> None:
    release, inspected = Release(), list[str]()

    def inspect(value: str) -> None:
        inspected.append(value)
        if value.startswith("q"):
            raise InputError(f"{value!r} cannot be pronounced")

    def stored(settings: str) -> StoredEncoder:
        inspection = Inspection(inspect, lambda: settings)
        released = ReleasedEncoder(release.check, lambda: 1, lambda: "weights", release.load, inspection)
        return StoredEncoder("protein", released, Cache(tmp_path), "cpu")

    expected = {"QA": "'qa' cannot be pronounced", "4": "'4' is no word"}
    assert stored("lenient").refusals(["ab", "QA", "4", "ab"]) == expected
    assert stored("lenient").refusals(["qa", "ab"]) == {"qa": "'qa' cannot be pronounced"}
    assert inspected == ["ab", "qa"] and release.loads == 0
    stored("strict").refusals(["ab"])
    assert inspected == ["ab", "qa", "ab"], "another setting is another verdict"


def test_encodings_are_made_before_they_are_read_and_the_weights_given_back(tmp_path: Path) -> None:
    release = Release()
    encoder = release.stored(tmp_path)
    prompts = [("word: ", Entity("protein", "ab"), Entity("cell", "ALB")), (Entity("protein", "cd"),)]
    prepare_encoders({"protein": encoder, "molecule": TableEncoder("molecule", 2)}, prompts)
    assert release.encoded == ["ab", "cd"] and not encoder.resident
    encoder.encode(["ab", "cd"])
    assert release.loads == 1
