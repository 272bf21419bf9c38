"""Rows of the page: what was injected, what survived, what was lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields


@dataclass(frozen=True)
class FaultRow:
    """One kind of fault.

    Attributes:
        fault: what happened.
        how: how it was brought about.
        injected: how many times.
        survived: after how many of them the same command ended with the results of an undisturbed sweep.
        lost: rows of ``results.csv`` that were then absent or other, over all of them.
        told: what the user reads.
    """

    fault: str
    how: str
    injected: int
    survived: int
    lost: int
    told: str


@dataclass(frozen=True)
class InputRow:
    """One kind of input from outside.

    Attributes:
        inputs: what was fuzzed.
        cases: how many inputs.
        accepted: read without an error.
        refused: with an error of this project that names the input.
        crashes: any other end.
    """

    inputs: str
    cases: int
    accepted: int
    refused: int
    crashes: int


def table(rows: Sequence[FaultRow] | Sequence[InputRow]) -> str:
    """Rows as a Markdown table under the names of their fields."""
    names = [field.name for field in fields(rows[0])]
    cells = [[str(cell) for cell in astuple(row)] for row in rows]
    lines = [names, ["---"] * len(names), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
