"""Does a molecule interact with a protein: tables of SMILES, amino-acid sequence, label and split."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from src.errors import ConfigError
from src.specialists.pieces import Benchmark
from src.tasks import SOURCES, Request
from src.tasks.assemble import TableSettings, assemble
from src.tasks.chemistry import canonical_smiles
from src.tasks.sequences import check_sequence
from src.tasks.splits import SIDES
from src.tasks.tables import Sieve, checksum, one_of, read_table, table_path

SPLIT_MARK = "{split}"


def _columns() -> dict[str, str]:
    return {"molecule": "SMILES", "protein": "sequence", "label": "label", "split": "split"}


@dataclass(frozen=True, kw_only=True)
class InteractionSettings(TableSettings):
    """Settings of a molecule-protein interaction benchmark.

    Attributes:
        table: file under the benchmark's root. With ``{split}`` in its name it is one file per split.
        columns: ``molecule``, ``protein``, ``label`` and, for a single file, ``split`` -> the table's column.
        label_values: the table's labels, negative first.
        splits: ``train``, ``validation`` and ``test`` -> the table's name of that split.
    """

    table: str
    columns: dict[str, str] = field(default_factory=_columns)
    label_values: list[str] = field(default_factory=lambda: ["0", "1"])
    splits: dict[str, str] = field(default_factory=lambda: {"train": "train", "validation": "val", "test": "test"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if set(self.splits) != set(SIDES):
            raise ConfigError(f"benchmark.splits names {', '.join(self.splits)}: expected {', '.join(sorted(SIDES))}")


@SOURCES.register("interactions", InteractionSettings)
def interactions(settings: InteractionSettings, request: Request) -> Benchmark:
    """Does this molecule interact with this protein? Splits are the table's own.

    A pair that the table holds on several sides stays on the first of test, validation and train.

    Raises:
        ConfigError: settings that do not fit.
        InputError: a missing file or column, or too many bad rows.
    """
    molecule, protein, label = (settings.columns[name] for name in ("molecule", "protein", "label"))
    paths, sieve = _read(settings, request, [molecule, protein, label])
    sieve.require([molecule, protein, label, "side"])
    sieve.convert("side", _side_of(settings))
    sieve.convert(label, one_of(label, settings.label_values))
    sieve.convert(protein, check_sequence)
    sieve.convert(molecule, canonical_smiles)
    sieve.frame = sieve.frame.sort_values("side", key=lambda sides: sides.map(SIDES.index), kind="stable")
    sieve.distinct([molecule, protein], label)
    sieve.finish(settings.max_rejects)
    frame = sieve.frame.sort_index()
    frame = frame.assign(
        molecule=frame[molecule],
        protein=frame[protein],
        key=frame[molecule] + " " + frame[protein],
        answer=frame[label],
        group=frame[protein].map({value: _short_hash(value) for value in frame[protein].unique()}),
    )
    total = checksum(paths, request.name, settings.sha256)
    return assemble(frame, ("molecule", "protein"), settings, request, total, sieve.rejects)


def _read(settings: InteractionSettings, request: Request, texts: Sequence[str]) -> tuple[list[Path], Sieve]:
    """The table or tables, with the table's name of each row's split as ``side``."""
    from datasets import concatenate_datasets

    if SPLIT_MARK not in settings.table:
        path, split = table_path(request.root, settings.table, request.name), settings.columns["split"]
        return [path], Sieve(read_table(path, [*texts, split]).rename_column(split, "side"))
    names = [settings.splits[side] for side in SIDES]
    paths = [table_path(request.root, settings.table.replace(SPLIT_MARK, name), request.name) for name in names]
    tables = [read_table(path, texts) for path in paths]
    sided = [table.add_column("side", [name] * len(table)) for table, name in zip(tables, names, strict=True)]
    return paths, Sieve(concatenate_datasets(sided))


def _side_of(settings: InteractionSettings) -> Callable[[str], str]:
    names = [settings.splits[side] for side in SIDES]
    place = one_of("split", names)
    return lambda value: SIDES[place(value)]


def _short_hash(sequence: str) -> str:
    """A name for a protein that tables give by its sequence only."""
    return hashlib.sha256(sequence.encode()).hexdigest()[:12]
