"""Does a molecule interact with a protein: tables of SMILES, amino-acid sequence, label and split."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pandas as pd

from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Benchmark
from esmerge.data.identity import MOLECULE
from esmerge.data.molecules import canonical_smiles
from esmerge.data.sequences import canonical_sequence
from esmerge.data.splits import PUBLISHED, SIDES
from esmerge.data.tables import RowValidator, checksum, one_of, read_columns, shared, table_names, table_path
from esmerge.tasks.api import SOURCES, BenchmarkRequest
from esmerge.tasks.assemble import assemble_benchmark, split_as
from esmerge.tasks.table_settings import SplitSettings

SPLIT_MARK = "{split}"


def _columns() -> dict[str, str]:
    return {"molecule": "SMILES", "protein": "sequence", "label": "label", "split": "split"}


@dataclass(frozen=True, kw_only=True)
class InteractionSettings(SplitSettings):
    """Settings of a molecule-protein interaction benchmark.

    Attributes:
        table: file under the benchmark's root. With ``{split}`` in its name it is one file per split.
        columns: ``molecule``, ``protein``, ``label`` and, for a single file, ``split`` -> the table's column.
        label_values: the table's labels, negative first.
        splits: ``train``, ``validation`` and ``test`` -> the table's name of that split.
        split: ``published``, the table's own; ``random`` pairs; or ``cold_drug``, ``cold_target`` or ``scaffold``,
            where test molecules, test proteins or the molecules' scaffolds are new. Only the first reads ``split``.
        validation_share, test_share: as in ``SplitSettings``; ``published`` has its own.
    """

    SPLITS: ClassVar[tuple[str, ...]] = (PUBLISHED, "random", "cold_drug", "cold_target", "scaffold")
    REQUIRED: ClassVar[tuple[str, ...]] = ("molecule", "protein", "label")
    table: str
    columns: dict[str, str] = field(default_factory=_columns)
    label_values: list[str] = field(default_factory=lambda: ["0", "1"])
    splits: dict[str, str] = field(default_factory=lambda: {"train": "train", "validation": "val", "test": "test"})
    split: str = PUBLISHED

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.split == PUBLISHED and SPLIT_MARK not in self.table and "split" not in self.columns:
            raise ConfigError(
                f"benchmark.split=published needs benchmark.columns.split, the column of {self.table} that names it; "
                f"without one choose one of {', '.join(self.SPLITS[1:])}"
            )
        if set(self.splits) != set(SIDES):
            raise ConfigError(f"benchmark.splits names {', '.join(self.splits)}: expected {', '.join(sorted(SIDES))}")


@SOURCES.register("interactions", InteractionSettings)
def interactions(settings: InteractionSettings, request: BenchmarkRequest) -> Benchmark:
    """Does this molecule interact with this protein?

    A pair that the table holds on several sides of its own split stays on the first of test, validation and train.

    Raises:
        ConfigError: settings that do not fit.
        InputError: a missing file or column, or too many bad rows.
    """
    molecule, protein, label = (settings.columns[name] for name in ("molecule", "protein", "label"))
    paths, validator = _read(settings, request, [molecule, protein, label])
    validator.require([molecule, protein, label])
    if settings.split == PUBLISHED:
        validator.require(["side"])
        validator.convert("side", _side_of(settings))
    validator.convert(label, one_of(label, settings.label_values))
    validator.convert(protein, canonical_sequence)
    validator.convert(molecule, canonical_smiles)
    if settings.split == PUBLISHED:
        validator.frame = validator.frame.sort_values("side", key=lambda sides: sides.map(SIDES.index), kind="stable")
    same = settings.identities(**{molecule: MOLECULE})
    validator.distinct([molecule, protein], label, same)
    validator.finish(settings.max_rejects)
    frame = validator.frame.sort_index()
    hashes = {value: _short_hash(value) for value in frame[protein].unique()}
    frame = frame.assign(
        molecule=frame[molecule], protein=frame[protein], answer=frame[label], group=frame[protein].map(hashes)
    )
    frame = _split(frame, settings, request)
    total = checksum(paths, request.name, settings.sha256)
    return assemble_benchmark(frame, ("molecule", "protein"), settings, request, total, validator.rejects)


def _split(frame: pd.DataFrame, settings: InteractionSettings, request: BenchmarkRequest) -> pd.DataFrame:
    """The checked pairs with ``key`` and ``side``."""
    if settings.split == PUBLISHED:
        molecules = shared(frame, settings.identities(molecule=MOLECULE))["molecule"]
        return frame.assign(key=molecules + " " + frame["protein"])
    return split_as(frame, settings, request)


def _read(
    settings: InteractionSettings, request: BenchmarkRequest, texts: Sequence[str]
) -> tuple[list[Path], RowValidator]:
    """The table or tables; ``side`` is the table's name of each row's split, if that split is used or has a file."""
    from datasets import concatenate_datasets

    if SPLIT_MARK not in settings.table:
        path = table_path(request.root, settings.table, request.name)
        if settings.split != PUBLISHED:
            return [path], RowValidator(read_columns(path, texts))
        split = settings.columns["split"]
        return [path], RowValidator(read_columns(path, [*texts, split]).rename_column(split, "side"))
    names = [settings.splits[side] for side in SIDES]
    paths = [table_path(request.root, settings.table.replace(SPLIT_MARK, name), request.name) for name in names]
    tables = [read_columns(path, texts, name=table) for path, table in zip(paths, table_names(paths), strict=True)]
    sided = [table.add_column("side", [name] * len(table)) for table, name in zip(tables, names, strict=True)]
    return paths, RowValidator(concatenate_datasets(sided))


def _side_of(settings: InteractionSettings) -> Callable[[str], str]:
    names = [settings.splits[side] for side in SIDES]
    index = one_of("split", names)
    return lambda value: SIDES[index(value)]


def _short_hash(sequence: str) -> str:
    """A name for a protein that tables give by its sequence only."""
    return hashlib.sha256(sequence.encode()).hexdigest()[:12]
