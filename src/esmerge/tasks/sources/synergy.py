"""Do two drugs work together on a cell line: pairs with a measured synergy score, drugs as SMILES, cells as genes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Benchmark, Reject
from esmerge.core.validation import at_least
from esmerge.data.identity import LINE, MOLECULE
from esmerge.data.joining import PAIR, REPLICATES, Names, average_replicates, leave_out, pair_up, read_names, resolve
from esmerge.data.molecules import canonical_smiles
from esmerge.data.sequences import gene_list
from esmerge.data.splits import left_out
from esmerge.data.tables import RowValidator, checksum, read_columns, table_path
from esmerge.tasks.api import SOURCES, BenchmarkRequest
from esmerge.tasks.assemble import assemble_benchmark, split_as
from esmerge.tasks.table_settings import SplitSettings

EXPERIMENT = [*PAIR, "line"]  # rows of one experiment are its replicates


def _columns() -> dict[str, str]:
    return {
        "drug_1": "cid_a",
        "drug_2": "cid_b",
        "line": "cell_line",
        "score": "loewe",
        "drug": "pubchemid",
        "molecule": "SMILES",
        "alias": "gdsc_cells_key",
        "cell": "cell_line",
        "genes": "top200_by_expression",
    }


@dataclass(frozen=True, kw_only=True)
class SynergySettings(SplitSettings):
    """Settings of a synergy benchmark.

    Attributes:
        pairs, drugs, cells: files under the benchmark's root: ``drug_1``, ``drug_2``, ``line`` and ``score``; ``drug``
            and ``molecule``; ``cell`` and ``genes``.
        lines: file with ``line`` and ``alias``, the name that ``cells`` has for it; None where the names are the same.
        columns: these words -> the tables' columns.
        genes: how many of a cell's ranked genes the prompt holds.
        threshold: Synergistic above it, Antagonistic below its negative; what lies between is left out.
        replicates: ``mean`` or ``median`` of the scores of one pair on one line is what is compared to the threshold.
    """

    SPLITS: ClassVar[tuple[str, ...]] = ("random", "cold_drug", "cold_one_drug", "cold_cell", "scaffold")
    pairs: str
    drugs: str
    cells: str
    lines: str | None = None
    columns: dict[str, str] = field(default_factory=_columns)
    genes: int = 50
    threshold: float = 10.0
    replicates: str = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, "benchmark", 1, "genes")
        if self.threshold < 0:
            raise ConfigError(
                f"benchmark.threshold={self.threshold:g} must be at least 0: it holds on either side of 0"
            )
        if self.replicates not in REPLICATES:
            raise ConfigError(f"benchmark.replicates={self.replicates!r} must be one of {', '.join(REPLICATES)}")


@SOURCES.register("synergy", SynergySettings)
def synergy(settings: SynergySettings, request: BenchmarkRequest) -> Benchmark:
    """Are these two drugs synergistic on this cell line?

    Raises:
        ConfigError: settings that do not fit.
        InputError: a missing file or column, or too many bad rows in any of the tables.
    """
    files = (settings.pairs, settings.drugs, settings.cells, *([settings.lines] if settings.lines else []))
    paths = [table_path(request.root, file, request.name) for file in files]
    validator, rejects = _experiments(settings, paths)
    rejects += _labelled(validator, settings)
    labelled = validator.frame.assign(group=validator.frame["line"])
    frame = split_as(labelled, settings, request)
    rejects += left_out(labelled, frame, settings.split)
    total = checksum(paths, request.name, settings.sha256)
    return assemble_benchmark(frame, (*["molecule"] * len(PAIR), "cell"), settings, request, total, rejects)


def _experiments(settings: SynergySettings, paths: list[Path]) -> tuple[RowValidator, list[Reject]]:
    """Checked rows with both molecules, ``line``, ``cell`` and ``score``, and what was refused in all tables."""
    columns = settings.columns
    texts = [columns[name] for name in ("drug_1", "drug_2", "line")]
    validator = RowValidator(read_columns(paths[0], texts, [columns["score"]]))
    validator.require([*texts, columns["score"]])
    drugs = read_names(paths[1], columns["drug"], columns["molecule"], canonical_smiles, settings.max_rejects)
    for name, molecule in zip(("drug_1", "drug_2"), PAIR, strict=True):
        resolve(validator, columns[name], drugs, molecule)
    cells = _cells(settings, paths[2:])
    for names, (column, into) in zip(cells, _way_to_cell(columns, len(cells)), strict=True):
        resolve(validator, column, names, into)
    pair_up(validator, settings.identities(**dict.fromkeys(PAIR, MOLECULE)))
    validator.finish(settings.max_rejects)
    validator.frame = validator.frame.assign(
        line=validator.frame[columns["line"]], score=validator.frame[columns["score"]]
    )
    return validator, [reject for names in (drugs, *cells) for reject in names.rejects] + validator.rejects


def _cells(settings: SynergySettings, paths: list[Path]) -> list[Names]:
    """The tables that lead from a cell line's name to its genes, in the order in which they are looked up."""
    columns = settings.columns
    genes = partial(gene_list, count=settings.genes)
    tables = [read_names(paths[0], columns["cell"], columns["genes"], genes, settings.max_rejects)]
    for path in paths[1:]:
        tables.insert(0, read_names(path, columns["line"], columns["alias"], str, settings.max_rejects))
    return tables


def _way_to_cell(columns: dict[str, str], steps: int) -> list[tuple[str, str]]:
    return [(columns["line"], "cell")] if steps == 1 else [(columns["line"], "alias"), ("alias", "cell")]


def _labelled(validator: RowValidator, settings: SynergySettings) -> list[Reject]:
    """Give every experiment one ``answer``; returns the replicates and the experiments without a clear one."""
    same = settings.identities(**dict.fromkeys(PAIR, MOLECULE), line=LINE)
    replicates = average_replicates(validator, EXPERIMENT, "score", settings.replicates, same)
    validator.frame = validator.frame.assign(answer=(validator.frame["score"] > 0).astype(int))
    unclear = ~(validator.frame["score"].abs() > settings.threshold)
    reason = f"{settings.columns['score']} within {settings.threshold:g} of 0: neither synergistic nor antagonistic"
    return replicates + leave_out(validator, unclear, reason)
