"""Proteins and cells as text: which letters and which gene symbols are valid."""

from __future__ import annotations

import re

from esmerge.core.errors import InputError
from esmerge.data.genes import check_gene

STANDARD = "ACDEFGHIKLMNPQRSTVWY"
# Letters that IUPAC defines beyond the standard twenty and that real tables hold: U selenocysteine and O pyrrolysine
# are residues of their own; X is any residue, B is D or N, Z is E or Q, J is I or L where sequencing could not tell.
EXTENDED = "UOXBZJ"
AMINO_ACIDS = frozenset(STANDARD + EXTENDED)
GAPS = re.compile(r"[\s.-]+")
MISSING = frozenset(("NA", "N/A", "#N/A", "NAN", "NULL", "NONE", "NIL", "MISSING"))


def check_sequence(sequence: str) -> str:
    """Return the amino-acid sequence if every letter is one of ``AMINO_ACIDS``.

    Raises:
        InputError: empty, or the first letter that is not allowed, with its position counted from 1.
    """
    if not sequence:
        raise InputError("protein sequence is empty: expected one-letter amino-acid codes")
    if AMINO_ACIDS.issuperset(sequence):
        return sequence
    position, letter = next((i, c) for i, c in enumerate(sequence, start=1) if c not in AMINO_ACIDS)
    raise InputError(
        f"protein sequence {_short(sequence)} has {letter!r} at position {position}: expected capitals out of "
        f"{STANDARD} or {EXTENDED}"
    )


def canonical_sequence(text: str) -> str:
    """The sequence as residues alone: capitals, without blanks, alignment gaps (``-``, ``.``) and a final stop (``*``).

    Raises:
        InputError: as ``check_sequence``, and a word for a missing value, whose letters would be residues.
    """
    if text.strip().upper() in MISSING:
        raise InputError(f"protein sequence {text!r} stands for a missing value: give the sequence or remove the row")
    return check_sequence(GAPS.sub("", text).upper().removesuffix("*"))


def gene_list(text: str, count: int | None = None) -> str:
    """The first ``count`` gene symbols of a blank-separated list, separated by single blanks.

    Raises:
        InputError: no symbols, or one that is not a gene symbol in capitals.
    """
    symbols = text.split()
    if not symbols:
        raise InputError("gene list is empty: expected gene symbols separated by blanks")
    for position, symbol in enumerate(symbols[:count], start=1):
        try:
            check_gene(symbol)
        except InputError as error:
            raise InputError(f"gene list has {symbol!r} at position {position}: {error}") from None
    return " ".join(symbols[:count])


def _short(sequence: str, limit: int = 24) -> str:
    return repr(sequence) if len(sequence) <= limit else f"{sequence[:limit]!r}… ({len(sequence)} letters)"
