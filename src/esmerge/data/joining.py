"""Tables that name their entities: other tables say what a name stands for, and a pair has no order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from esmerge.core.prompts import Reject
from esmerge.data.tables import Sieve, read_table

PAIR = ["molecule_1", "molecule_2"]
REPLICATES = ("mean", "median")


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
    return _names(Sieve(read_table(path, [name, value])), path.name, (name, value), check, max_rejects)


def read_names_of_pairs(
    path: Path, columns: Sequence[tuple[str, str]], check: Callable[[str], str], max_rejects: float
) -> Names:
    """Read the names and values that a table of pairs itself holds; a name may recur with its value.

    Args:
        columns: (name, value) of each member of a pair.

    Raises:
        InputError: a missing column, or too many bad names.
    """
    from datasets import Dataset  # a second of imports that embedded benchmarks do not need

    table = read_table(path, [column for both in columns for column in both]).to_pandas()
    parts = [table[["row", *both]].set_axis(["row", *columns[0]], axis=1) for both in columns]
    frame = pd.concat(parts).drop_duplicates(list(columns[0]))
    sieve = Sieve(Dataset.from_pandas(frame, preserve_index=False))
    return _names(sieve, path.name, columns[0], check, max_rejects)


def _names(sieve: Sieve, file: str, columns: tuple[str, str], check: Callable[[str], str], max_rejects: float) -> Names:
    name, value = columns
    sieve.require([name, value])
    sieve.convert(value, check)
    sieve.distinct([name], value)
    sieve.finish(max_rejects)
    return Names(file, dict(zip(sieve.frame[name], sieve.frame[value], strict=True)), tuple(sieve.rejects))


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


def average(sieve: Sieve, experiment: Sequence[str], value: str, how: str) -> list[Reject]:
    """Give every experiment one value, in its first row; returns its other rows, which are left out.

    Args:
        experiment: columns that tell experiments apart; rows that agree in all of them are replicates.
        how: one of ``REPLICATES``.
    """
    values = sieve.frame.groupby(list(experiment), sort=False)[value].transform(how)
    sieve.frame = sieve.frame.assign(**{value: values})
    repeated = sieve.frame.duplicated(list(experiment))
    return leave_out(sieve, repeated, f"a replicate: the {how} stands in the experiment's first row")


def leave_out(sieve: Sieve, where: pd.Series, reason: str) -> list[Reject]:
    """Take out rows that the benchmark's own definition leaves out; unlike bad rows they do not count as refused.

    Args:
        where: (n,) true for these rows, aligned with the sieve's frame.
    """
    taken = [Reject(row, reason) for row in sieve.frame.loc[where, "row"]]
    sieve.frame = sieve.frame[~where]
    return taken
