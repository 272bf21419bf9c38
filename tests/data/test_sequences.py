from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esmerge.core.errors import InputError
from esmerge.data.sequences import AMINO_ACIDS, check_sequence, gene_list

sequences = st.text(sorted(AMINO_ACIDS), min_size=1, max_size=60)


def test_the_alphabet_is_the_capitals_iupac_defines() -> None:
    assert frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ") == AMINO_ACIDS


@given(sequences)
def test_valid_letters_pass_unchanged(sequence: str) -> None:
    assert check_sequence(sequence) == sequence


@given(sequences, sequences, st.sampled_from("*-.1 amx?"))
def test_a_bad_letter_is_named_with_its_position(head: str, tail: str, bad: str) -> None:
    with pytest.raises(InputError) as error:
        check_sequence(head + bad + tail)
    assert f"{bad!r} at position {len(head) + 1}:" in str(error.value)


@pytest.mark.parametrize("call", [check_sequence, gene_list])
def test_nothing_is_not_input(call) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match="empty"):
        call("")


def test_blanks_are_not_a_gene_list() -> None:
    with pytest.raises(InputError, match="empty"):
        gene_list("   ")


def test_a_gene_list_is_cut_from_the_top() -> None:
    assert gene_list(" TP53  C6orf48 HLA.DRA\tEGFR ", 3) == "TP53 C6orf48 HLA.DRA"
    assert gene_list("TP53 EGFR", 50) == "TP53 EGFR"


@pytest.mark.parametrize("bad", ["tp53", "Tp53", "TP53,EGFR", "_X"])
def test_a_bad_symbol_is_named_with_its_position(bad: str) -> None:
    with pytest.raises(InputError) as error:
        gene_list(f"EGFR {bad}")
    assert f"{bad!r} at position 2" in str(error.value)
