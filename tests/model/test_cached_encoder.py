"""Encoders that keep what they made."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from tests import small
from torch import Tensor

from esmerge.core.errors import InputError
from esmerge.core.prompts import Entity
from esmerge.model.cached_encoder import CachedEncoder


class Counting:
    """Makes one token of every text, and counts."""

    modality = "molecule"

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def encode(self, values: Sequence[str]) -> list[Tensor]:
        self.calls.append(list(values))
        if "" in values:
            raise InputError("an empty molecule")
        return [torch.full((1, 4), float(len(value))) for value in values]


def test_the_same_list_is_encoded_once() -> None:
    encoder = Counting()
    cached = CachedEncoder(encoder)
    first = cached.encode(["C", "CC"])
    first.clear()  # the caller's list, not the cached one
    assert [float(tokens[0, 0]) for tokens in cached.encode(["C", "CC"])] == [1.0, 2.0]
    assert encoder.calls == [["C", "CC"]]
    cached.encode(["CC", "C"])
    assert encoder.calls[1:] == [["CC", "C"]], "neighbours may matter by a rounding error"


def test_what_was_not_asked_for_longest_goes_first() -> None:
    encoder = Counting()
    cached = CachedEncoder(encoder, capacity=2 * 16)
    for value in ("C", "CC", "C", "CCC", "C", "CC"):
        cached.encode([value])
    assert encoder.calls == [["C"], ["CC"], ["CCC"], ["CC"]]


def test_more_than_the_capacity_is_still_encoded() -> None:
    cached = CachedEncoder(Counting(), capacity=1)
    assert len(cached.encode(["C", "CC", "CCC"])) == 3 and len(cached.encode(["C"])) == 1


def test_a_refused_value_is_refused_again() -> None:
    cached = CachedEncoder(Counting())
    for _ in range(2):
        with pytest.raises(InputError, match="empty molecule"):
            cached.encode([""])


def test_a_renderer_with_cached_encoders_renders_the_same() -> None:
    specialists = small.specialists({"mol": "molecule", "prot": "protein"})
    prompts = [("drug : ", Entity("molecule", "CCO"), " ? "), ("protein : ", Entity("protein", "MKTAY"), " ? ")]
    for _ in range(2):
        assert torch.equal(
            specialists.caching_prompt_encoder.batch(prompts).embeds, specialists.prompt_encoder.batch(prompts).embeds
        )
