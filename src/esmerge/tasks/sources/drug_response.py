"""Is a cell line sensitive to a drug: pairs with a measured response, drugs as SMILES, cells as ranked genes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

import pandas as pd

from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Benchmark, Reject
from esmerge.core.validation import at_least
from esmerge.data.identity import LINE, MOLECULE
from esmerge.data.joining import REPLICATES, Names, average_replicates, read_names, resolve
from esmerge.data.molecules import canonical_smiles
from esmerge.data.sequences import gene_list
from esmerge.data.tables import RowValidator, checksum, read_columns, table_path
from esmerge.tasks.api import SOURCES, BenchmarkRequest
from esmerge.tasks.assemble import assemble_benchmark, split_as
from esmerge.tasks.table_settings import SplitSettings

EXPERIMENT = ["molecule", "line"]  # rows of one experiment are its replicates


def response_columns() -> dict[str, str]:
    """Word -> column of the tables of responses, drugs and cell lines, as GDSC2's are named here."""
    return {
        "line": "cell_line",
        "drug": "drug",
        "response": "LN_IC50",
        "compound": "drug",
        "molecule": "SMILES",
        "cell": "cell_line",
        "genes": "top200_by_expression",
    }


@dataclass(frozen=True, kw_only=True)
class DrugResponseSettings(SplitSettings):
    """Settings of a drug-response benchmark.

    Attributes:
        pairs, drugs, cells: files under the benchmark's root: ``line``, ``drug`` and ``response``; ``compound`` and
            ``molecule``; ``cell`` and ``genes``. A compound is a drug of the pairs, a cell one of their lines.
        columns: these words -> the tables' columns.
        genes: how many of a cell's ranked genes the prompt holds.
        threshold: a pair is Sensitive where the response (log IC50) lies below it: ``drug_median`` (of that drug over
            all its cell lines), ``global_median`` (of all pairs), or a number.
        replicates: ``mean`` or ``median`` of the responses of one molecule on one line is what is compared to the
            threshold; None refuses pairs that contradict each other.
    """

    SPLITS: ClassVar[tuple[str, ...]] = ("random", "cold_drug", "cold_cell", "scaffold")
    pairs: str
    drugs: str
    cells: str
    columns: dict[str, str] = field(default_factory=response_columns)
    genes: int = 50
    threshold: str = "drug_median"
    replicates: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, "benchmark", 1, "genes")
        if self.replicates not in (None, *REPLICATES):
            raise ConfigError(f"benchmark.replicates={self.replicates!r} must be {', '.join(REPLICATES)} or null")


@SOURCES.register("drug_response", DrugResponseSettings)
def drug_response(settings: DrugResponseSettings, request: BenchmarkRequest) -> Benchmark:
    """Is this cell line sensitive to this drug?

    Raises:
        ConfigError: settings that do not fit.
        InputError: a missing file or column, or too many bad rows in any of the three tables.
    """
    paths = [table_path(request.root, file, request.name) for file in (settings.pairs, settings.drugs, settings.cells)]
    pairs, rejects = _pairs(settings, paths)
    frame = split_as(pairs.assign(group=pairs["line"]), settings, request)
    total = checksum(paths, request.name, settings.sha256)
    return assemble_benchmark(frame, ("molecule", "cell"), settings, request, total, rejects)


def sensitive(responses: pd.Series, drugs: pd.Series, threshold: str) -> pd.Series:
    """1 where a response lies below the threshold, else 0.

    The median of a drug is taken over all its pairs, whatever their split: it defines what Sensitive means, so it must
    not change with the seed.

    Args:
        responses: (n,) log IC50.
        drugs: (n,) the drug of each.
        threshold: ``drug_median``, ``global_median`` or a number as text.
    """
    if threshold == "drug_median":
        return (responses < responses.groupby(drugs).transform("median")).astype(int)
    if threshold == "global_median":
        return (responses < responses.median()).astype(int)
    try:
        return (responses < float(threshold)).astype(int)
    except ValueError:
        raise ConfigError(f"benchmark.threshold={threshold!r} must be drug_median, global_median or a number") from None


def _pairs(settings: DrugResponseSettings, paths: list[Path]) -> tuple[pd.DataFrame, list[Reject]]:
    """Checked pairs with ``molecule``, ``cell``, ``line`` and ``answer``, and what was refused in the three tables."""
    line, drug, response = (settings.columns[name] for name in ("line", "drug", "response"))
    molecules, cells = _names(settings, paths)
    validator = RowValidator(read_columns(paths[0], [line, drug], [response]))
    validator.require([line, drug, response])
    resolve(validator, drug, molecules, "molecule")
    resolve(validator, line, cells, "cell")
    validator.frame = validator.frame.assign(line=validator.frame[line])
    same = settings.identities(molecule=MOLECULE, line=LINE)
    replicates = (
        average_replicates(validator, EXPERIMENT, response, settings.replicates, same) if settings.replicates else []
    )
    answers = sensitive(validator.frame[response], validator.frame[drug], settings.threshold)
    validator.frame = validator.frame.assign(answer=answers)
    validator.distinct(EXPERIMENT, "answer", same)
    validator.finish(settings.max_rejects)
    return validator.frame, [*molecules.rejects, *cells.rejects, *validator.rejects, *replicates]


def _names(settings: DrugResponseSettings, paths: list[Path]) -> tuple[Names, Names]:
    """Drug name -> SMILES, and cell line -> genes."""
    columns, genes = settings.columns, partial(gene_list, count=settings.genes)
    return (
        read_names(paths[1], columns["compound"], columns["molecule"], canonical_smiles, settings.max_rejects),
        read_names(paths[2], columns["cell"], columns["genes"], genes, settings.max_rejects),
    )
