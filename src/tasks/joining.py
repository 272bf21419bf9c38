"""Tables that name their entities: other tables say what a name stands for, and a pair has no order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from src.specialists.pieces import Reject
from src.tasks.tables import Sieve, read_table

PAIR = ["molecule_1", "molecule_2"]


@dataclass(frozen=True)
class Names:
    """What a table's names stand for.

    Attributes:
        file: the table.
        values: name -> checked value.
        rejects: its rows that are left out.
    """

    file: str
    values: Mapping[str, str]
    rejects: tuple[Reject, ...]


def read_names(path: Path, name: str, value: str, check: Callable[[str], str], max_rejects: float) -> Names:
    """Read a table of names and values, each name once.

    Args:
        name, value: columns.
        check: raw value -> checked value; raises ``InputError``.

    Raises:
        InputError: a missing column, or too many bad rows.
    """
    sieve = Sieve(read_table(path, [name, value]))
    sieve.require([name, value])
    sieve.convert(value, check)
    sieve.distinct([name], value)
    sieve.finish(max_rejects)
    values = dict(zip(sieve.frame[name], sieve.frame[value], strict=True))
    return Names(path.name, values, tuple(sieve.rejects))


def resolve(sieve: Sieve, column: str, names: Names, into: str) -> None:
    """Add the column ``into``: what ``column`` names. Rows with a name that has no valid row are refused."""
    unknown = ~sieve.frame[column].isin(list(names.values))
    sieve.refuse((column + " '" + sieve.frame[column] + f"' has no valid row in {names.file}").where(unknown, None))
    sieve.frame = sieve.frame.assign(**{into: sieve.frame[column].map(names.values)})


def pair_up(sieve: Sieve) -> None:
    """Put the two molecules of every row in alphabetical order, since both orders are one pair; refuse a molecule
    paired with itself."""
    one, other = (sieve.frame[column] for column in PAIR)
    sieve.refuse(pd.Series("both drugs are one molecule", index=one.index, dtype=object).where(one == other, None))
    one, other = (sieve.frame[column] for column in PAIR)
    swapped = one > other
    sieve.frame = sieve.frame.assign(**{PAIR[0]: other.where(swapped, one), PAIR[1]: one.where(swapped, other)})


def leave_out(sieve: Sieve, where: pd.Series, reason: str) -> list[Reject]:
    """Take out rows that the benchmark's own definition leaves out; unlike bad rows they do not count as refused.

    Args:
        where: (n,) true for these rows, aligned with the sieve's frame.
    """
    taken = [Reject(row, reason) for row in sieve.frame.loc[where, "row"]]
    sieve.frame = sieve.frame[~where]
    return taken
