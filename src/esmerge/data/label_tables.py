"""Tables that share their entities: one table per name, in each the molecules that have or lack what it names.

What panels ask about and what specialists are taught comes from here, under one split: a molecule's side follows from
the seed and the molecule alone, whatever the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from esmerge.core.prompts import Reject
from esmerge.data.molecules import canonical_smiles
from esmerge.data.splits import uniform
from esmerge.data.tables import RowValidator, Same, one_of, read_columns, table_names


@dataclass(frozen=True)
class Labels:
    """What tables say of molecules.

    Attributes:
        frame: ``row``, ``molecule`` (canonical SMILES), ``name`` (of the table) and ``answer`` (0 or 1); a molecule
            stands at most once in each table.
        rejects: the rows that are left out.
    """

    frame: pd.DataFrame
    rejects: tuple[Reject, ...]


def read_labels(
    paths: Mapping[str, Path],
    columns: tuple[str, str],
    label_values: Sequence[str],
    max_rejects: float,
    same: Same | None = None,
) -> Labels:
    """Read and check one table per name.

    Args:
        paths: name, e.g. of an enzyme -> its table.
        columns: of the molecule and of the label, in every table.
        label_values: the tables' labels, negative first.
        same: as in ``RowValidator.distinct``.

    Raises:
        InputError: a missing column, or too many bad rows in a table.
    """
    molecule, label = columns
    frames, rejects = [], list[Reject]()
    for (name, path), table in zip(paths.items(), table_names(list(paths.values())), strict=True):
        validator = RowValidator(read_columns(path, columns, name=table))
        validator.require(columns)
        validator.convert(label, one_of(label, label_values))
        validator.convert(molecule, canonical_smiles)
        validator.distinct([molecule], label, same)
        validator.finish(max_rejects)
        frame = validator.frame.rename(columns={molecule: "molecule", label: "answer"})
        frames.append(frame[["row", "molecule", "answer"]].assign(name=name))
        rejects += validator.rejects
    return Labels(pd.concat(frames, ignore_index=True), tuple(rejects))


def relation_in_words(verb: str, answers: Mapping[str, int], seed: int, entity: str) -> str:
    """What an entity does, in words: ``inhibits CYP1A2 and CYP2D6, but not CYP2C9``.

    Args:
        verb: in the third person.
        answers: name -> 1 or 0.
        seed, entity: fix the order of the names, so that it says nothing.
    """
    names = sorted(answers, key=lambda name: uniform(f"{seed}:{entity}:{name}"))
    positive, negative = ([name for name in names if answers[name] == value] for value in (1, 0))
    if not positive:
        return f"{verb} none of {joined_names(negative)}"
    return f"{verb} {joined_names(positive)}" + (f", but not {joined_names(negative, 'or')}" if negative else "")


def record_in_words(answers: Mapping[str, int], labels: Sequence[str], draw: str) -> str:
    """What is known of an entity as a record, which answers are looked up in: ``CYP2D6 No, CYP3A4 Yes``.

    Args:
        answers: name -> index of its label.
        labels: of the answers.
        draw: fixes the order of the names, so that it says nothing.
    """
    names = sorted(answers, key=lambda name: uniform(f"{draw}:{name}"))
    return ", ".join(f"{name} {labels[answers[name]]}" for name in names)


def joined_names(names: Sequence[str], conjunction: str = "and") -> str:
    """``A``, ``A and B`` or ``A, B and C``."""
    return f"{', '.join(names[:-1])} {conjunction} {names[-1]}" if len(names) > 1 else "".join(names)
