from __future__ import annotations

import pytest

from esmerge.core.errors import InputError
from esmerge.data.rules import LEFT_OUT, above, classes, contains, mentions


def test_above_is_strict_and_wants_a_number() -> None:
    place = above(2.5, "logP")
    assert [place(text) for text in ("2.5", "2.51", "-3", "1e1")] == [0, 1, 0, 1]
    with pytest.raises(InputError, match="logP 'high' is not a number"):
        place("high")


def test_contains_looks_for_the_very_text() -> None:
    assert [contains("acid")(text) for text in ("an acid", "Acid", "")] == [1, 0, 0]


def test_a_class_is_one_of_those_named_and_null_is_left_out() -> None:
    place = classes({"a": 0, "b": 2, "e": None}, "label")
    assert [place(text) for text in "abe"] == [0, 2, LEFT_OUT]
    with pytest.raises(InputError, match="label 'z' is not one of a, b, e"):
        place("z")


def test_only_the_first_sentence_counts_and_it_must_be_of_one_mind() -> None:
    place = mentions({"steroid": 0, "sterol": 0, "peptide": 1})
    assert place("The molecule is a Steroid. It is a peptide.") == 0
    assert place("A sterol that is a steroid") == 0
    assert place("A steroid joined to a peptide. More.") == LEFT_OUT
    assert place("An acid. It is a steroid.") == LEFT_OUT


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1e999", "NA", ""])
def test_what_is_no_finite_number_is_refused_and_not_below_the_limit(text: str) -> None:
    with pytest.raises(InputError, match="logp .* is not a number"):
        above(0.0, "logp")(text)
