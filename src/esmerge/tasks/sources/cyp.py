"""Inhibition of a cytochrome P450 by a molecule: a table of molecules per enzyme; the sequence is added here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from esmerge.core.prompts import Benchmark
from esmerge.data.enzymes import SEQUENCES, enzyme_sequence
from esmerge.data.identity import MOLECULE
from esmerge.data.molecules import canonical_smiles
from esmerge.data.tables import RowValidator, checksum, one_of, read_columns, table_path
from esmerge.tasks.api import SOURCES, BenchmarkRequest
from esmerge.tasks.assemble import assemble_benchmark, split_as
from esmerge.tasks.table_settings import SplitSettings


@dataclass(frozen=True, kw_only=True)
class CypSettings(SplitSettings):
    """Settings of a CYP benchmark.

    Attributes:
        table: file under the benchmark's root.
        enzyme: a name in ``src/esmerge/data/cyp_sequences.csv``.
        columns: ``molecule`` and ``label`` -> the table's column.
        label_values: the table's labels, negative first.
        split: ``random`` or ``cold_drug``, which differ in the forms of one molecule only, since a table holds a
            molecule once and one enzyme only; or ``scaffold``, where test molecules have new scaffolds. All depend on
            the seed and the molecule alone, so it is on the same side for every enzyme.
    """

    SPLITS: ClassVar[tuple[str, ...]] = ("random", "cold_drug", "scaffold")
    REQUIRED: ClassVar[tuple[str, ...]] = ("molecule", "label")
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
    validator.distinct([molecule], label, settings.identities(**{molecule: MOLECULE}))
    validator.finish(settings.max_rejects)
    # Split before the enzyme is added: it must not enter the key, or sides would differ between enzymes.
    frame = validator.frame.assign(molecule=validator.frame[molecule], answer=validator.frame[label])
    frame = split_as(frame, settings, request)
    frame = frame.assign(protein=protein, group=settings.enzyme)
    total = checksum([path, SEQUENCES], request.name, settings.sha256)
    return assemble_benchmark(frame, ("molecule", "protein"), settings, request, total, validator.rejects)
