"""Proteins and cells as text: which letters and which gene symbols are valid."""

from __future__ import annotations

import re

from esmerge.core.errors import InputError

STANDARD = "ACDEFGHIKLMNPQRSTVWY"
# Letters that IUPAC defines beyond the standard twenty and that real tables hold: U selenocysteine and O pyrrolysine
# are residues of their own; X is any residue, B is D or N, Z is E or Q, J is I or L where sequencing could not tell.
EXTENDED = "UOXBZJ"
AMINO_ACIDS = frozenset(STANDARD + EXTENDED)
# HGNC symbols are capitals and digits, with the one exception of open reading frames such as C6orf48. A dot stands
# for the hyphen in tables that passed through R (HLA.DRA).
GENE = re.compile(r"[A-Z0-9][A-Z0-9.@_/-]*(orf[0-9]+[A-Z0-9.-]*)?")


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


def gene_list(text: str, count: int | None = None) -> str:
    """The first ``count`` gene symbols of a blank-separated list, separated by single blanks.

    Raises:
        InputError: no symbols, or one that is not a gene symbol in capitals.
    """
    symbols = text.split()
    if not symbols:
        raise InputError("gene list is empty: expected gene symbols separated by blanks")
    for position, symbol in enumerate(symbols[:count], start=1):
        if not GENE.fullmatch(symbol):
            raise InputError(
                f"gene list has {symbol!r} at position {position}: expected a symbol in capitals, e.g. TP53 or C6orf48"
            )
    return " ".join(symbols[:count])


def _short(sequence: str, limit: int = 24) -> str:
    return repr(sequence) if len(sequence) <= limit else f"{sequence[:limit]!r}… ({len(sequence)} letters)"
