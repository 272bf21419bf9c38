"""Inhibition of a cytochrome P450 by a molecule: a table of molecules per enzyme; the sequence is added here."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Benchmark
from esmerge.data.molecules import canonical_smiles
from esmerge.data.tables import RowValidator, checksum, one_of, read_columns, table_path
from esmerge.tasks.api import SOURCES, BenchmarkRequest
from esmerge.tasks.assemble import SplitSettings, assemble_benchmark, split_as

SEQUENCES = Path(__file__).parents[1] / "data" / "cyp_sequences.csv"


@dataclass(frozen=True, kw_only=True)
class CypSettings(SplitSettings):
    """Settings of a CYP benchmark.

    Attributes:
        table: file under the benchmark's root.
        enzyme: a name in ``src/esmerge/tasks/data/cyp_sequences.csv``.
        columns: ``molecule`` and ``label`` -> the table's column.
        label_values: the table's labels, negative first.
        split: ``random`` or ``cold_drug``, which are one and the same here, since a table holds a molecule once and one
            enzyme only; or ``scaffold``, where test molecules have new scaffolds. All depend on the seed and the
            canonical SMILES alone, so a molecule is on the same side for every enzyme.
    """

    SPLITS: ClassVar[tuple[str, ...]] = ("random", "cold_drug", "scaffold")
    table: str
    enzyme: str
    columns: dict[str, str] = field(default_factory=lambda: {"molecule": "SMILES", "label": "label"})
    label_values: list[str] = field(default_factory=lambda: ["0", "1"])
    split: str = "cold_drug"


@SOURCES.register("cyp", CypSettings)
def cyp(settings: CypSettings, request: BenchmarkRequest) -> Benchmark:
    """Does this molecule inhibit this enzyme?

    Raises:
        ConfigError: an unknown enzyme, or settings that do not fit.
        InputError: a missing file or column, or too many bad rows.
    """
    protein = enzyme_sequence(settings.enzyme)
    path = table_path(request.root, settings.table, request.name)
    molecule, label = settings.columns["molecule"], settings.columns["label"]
    validator = RowValidator(read_columns(path, [molecule, label]))
    validator.require([molecule, label])
    validator.convert(label, one_of(label, settings.label_values))
    validator.convert(molecule, canonical_smiles)
    validator.distinct([molecule], label)
    validator.finish(settings.max_rejects)
    # Split before the enzyme is added: it must not enter the key, or sides would differ between enzymes.
    frame = validator.frame.assign(molecule=validator.frame[molecule], answer=validator.frame[label])
    frame = split_as(frame, settings, request)
    frame = frame.assign(protein=protein, group=settings.enzyme)
    total = checksum([path, SEQUENCES], request.name, settings.sha256)
    return assemble_benchmark(frame, ("molecule", "protein"), settings, request, total, validator.rejects)


@lru_cache(maxsize=1)
def _sequences() -> dict[str, str]:
    with SEQUENCES.open(newline="", encoding="utf-8") as file:
        return {row["enzyme"]: row["sequence"] for row in csv.DictReader(file)}


def enzyme_sequence(enzyme: str) -> str:
    """The human enzyme's amino acids; raises ``ConfigError`` naming the enzymes there are."""
    if enzyme not in _sequences():
        available = ", ".join(_sequences())
        raise ConfigError(f"benchmark.enzyme={enzyme!r} has no sequence in {SEQUENCES.name}: use one of {available}")
    return _sequences()[enzyme]
