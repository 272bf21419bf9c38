"""Tables that name their entities: names are looked up in other tables, and a pair has no order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from esmerge.core.prompts import Reject
from esmerge.data.tables import RowValidator, Same, read_columns, shared

PAIR = ["molecule_1", "molecule_2"]
REPLICATES = ("mean", "median")


@dataclass(frozen=True)
class Names:
    """A table of names and their values, e.g. drug names and SMILES.

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
    return _names(RowValidator(read_columns(path, [name, value])), path.name, (name, value), check, max_rejects)


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

    # What is malformed is refused where the same file is read as pairs.
    table = RowValidator(read_columns(path, [column for pair in columns for column in pair])).frame
    parts = [table[["row", *pair]].set_axis(["row", *columns[0]], axis=1) for pair in columns]
    frame = pd.concat(parts).drop_duplicates(list(columns[0]))
    validator = RowValidator(Dataset.from_pandas(frame, preserve_index=False))
    return _names(validator, path.name, columns[0], check, max_rejects)


def _names(
    validator: RowValidator, file: str, columns: tuple[str, str], check: Callable[[str], str], max_rejects: float
) -> Names:
    name, value = columns
    validator.require([name, value])
    validator.convert(value, check)
    validator.distinct([name], value)
    validator.finish(max_rejects)
    return Names(file, dict(zip(validator.frame[name], validator.frame[value], strict=True)), tuple(validator.rejects))


def resolve(validator: RowValidator, column: str, names: Names, into: str) -> None:
    """Add the column ``into``: what ``column`` names. Rows with a name that has no valid row are refused."""
    unknown = ~validator.frame[column].isin(list(names.values))
    validator.refuse(
        (column + " '" + validator.frame[column] + f"' has no valid row in {names.file}").where(unknown, None)
    )
    validator.frame = validator.frame.assign(**{into: validator.frame[column].map(names.values)})


def pair_up(validator: RowValidator, same: Same | None = None) -> None:
    """Put the two molecules of every row in alphabetical order, since both orders are one pair; refuse a molecule
    paired with itself.

    Args:
        same: as in ``RowValidator.distinct``; what equal molecules share decides then.
    """
    first, second = (shared(validator.frame, same or {})[column] for column in PAIR)
    reason = pd.Series("both drugs are one molecule", index=first.index, dtype=object)
    validator.refuse(reason.where(first == second, None))
    swapped = (first > second).loc[validator.frame.index]
    first, second = (validator.frame[column] for column in PAIR)
    validator.frame = validator.frame.assign(
        **{PAIR[0]: second.where(swapped, first), PAIR[1]: first.where(swapped, second)}
    )


def average_replicates(
    validator: RowValidator,
    experiment: Sequence[str],
    value: str,
    how: str,
    same: Same | None = None,
) -> list[Reject]:
    """Give every experiment one value, in its first row; returns its other rows, which are left out.

    Args:
        experiment: columns that tell experiments apart; rows that agree in all of them are replicates.
        how: one of ``REPLICATES``.
        same: as in ``RowValidator.distinct``.
    """
    compared = shared(validator.frame, same or {})
    keys = [compared[column] for column in experiment]
    values = validator.frame.groupby(keys, sort=False)[value].transform(how)
    validator.frame = validator.frame.assign(**{value: values})
    repeated = compared.duplicated(list(experiment))
    return leave_out(validator, repeated, f"a replicate: the {how} stands in the experiment's first row")


def leave_out(validator: RowValidator, where: pd.Series, reason: str) -> list[Reject]:
    """Take out rows that the benchmark's definition leaves out; unlike bad rows they do not count as refused.

    Args:
        where: (n,) true for these rows, aligned with the validator's frame.
    """
    rejects = [Reject(row, reason) for row in validator.frame.loc[where, "row"]]
    validator.frame = validator.frame[~where]
    return rejects
