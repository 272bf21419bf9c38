"""Is a cell line sensitive to a drug: pairs with a measured response, drugs as SMILES, cells as ranked genes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from src.errors import ConfigError
from src.specialists.pieces import Benchmark, Reject
from src.tasks import SOURCES, Request
from src.tasks.assemble import TableSettings, assemble
from src.tasks.chemistry import canonical_smiles
from src.tasks.sequences import gene_list
from src.tasks.splits import check_kind, split_rows
from src.tasks.tables import Sieve, checksum, read_table, table_path

SPLITS = ("random", "cold_drug", "cold_cell", "scaffold")


def _columns() -> dict[str, str]:
    return {
        "line": "cell_line",
        "drug": "drug",
        "response": "LN_IC50",
        "molecule": "SMILES",
        "genes": "top200_by_expression",
    }


@dataclass(frozen=True, kw_only=True)
class DrugResponseSettings(TableSettings):
    """Settings of a drug-response benchmark.

    Attributes:
        pairs, drugs, cells: files under the benchmark's root.
        columns: ``line``, ``drug``, ``response``, ``molecule`` and ``genes`` -> the tables' columns.
        genes: how many of a cell's ranked genes the prompt holds.
        threshold: a pair is Sensitive where the response (log IC50) lies below it: ``drug_median`` (of that drug over
            all its cell lines), ``global_median`` (of all pairs), or a number.
        split: ``random`` pairs, or ``cold_drug``, ``cold_cell`` or ``scaffold``, where test drugs, test cell lines or
            the drugs' scaffolds are new.
        validation_share, test_share: shares of the pairs, drugs, cell lines or scaffolds.
    """

    pairs: str
    drugs: str
    cells: str
    columns: dict[str, str] = field(default_factory=_columns)
    genes: int = 50
    threshold: str = "drug_median"
    split: str = "random"
    validation_share: float = 0.1
    test_share: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_kind(self.split, SPLITS)
        if self.genes < 1:
            raise ConfigError(f"benchmark.genes={self.genes} must be at least 1")


@SOURCES.register("drug_response", DrugResponseSettings)
def drug_response(settings: DrugResponseSettings, request: Request) -> Benchmark:
    """Is this cell line sensitive to this drug?

    Raises:
        ConfigError: settings that do not fit.
        InputError: a missing file or column, or too many bad rows in any of the three tables.
    """
    paths = [table_path(request.root, file, request.name) for file in (settings.pairs, settings.drugs, settings.cells)]
    pairs, rejects = _pairs(settings, paths)
    frame = pairs.assign(group=pairs["line"])
    frame = split_rows(frame, settings.split, request.seed, settings.validation_share, settings.test_share)
    total = checksum(paths, request.name, settings.sha256)
    return assemble(frame, ("molecule", "cell"), settings, request, total, rejects)


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
    molecules = _lookup(paths[1], drug, settings.columns["molecule"], canonical_smiles, settings.max_rejects)
    cells = _lookup(
        paths[2], line, settings.columns["genes"], lambda text: gene_list(text, settings.genes), settings.max_rejects
    )
    sieve = Sieve(read_table(paths[0], [line, drug], [response]))
    sieve.require([line, drug, response])
    for column, path, known in ((drug, paths[1], molecules), (line, paths[2], cells)):
        unknown = ~sieve.frame[column].isin(known.frame[column])
        reasons = column + " '" + sieve.frame[column] + f"' has no valid row in {path.name}"
        sieve.refuse(reasons.where(unknown, None))
    frame = sieve.frame
    sieve.frame = frame.assign(
        molecule=frame[drug].map(molecules.frame.set_index(drug)[settings.columns["molecule"]]),
        cell=frame[line].map(cells.frame.set_index(line)[settings.columns["genes"]]),
        line=frame[line],
        answer=sensitive(frame[response], frame[drug], settings.threshold),
    )
    sieve.distinct(["molecule", "line"], "answer")
    sieve.finish(settings.max_rejects)
    return sieve.frame, [*molecules.rejects, *cells.rejects, *sieve.rejects]


def _lookup(path: Path, name: str, value: str, function: Callable[[str], str], max_rejects: float) -> Sieve:
    """A table of names and values, each value checked, each name once."""
    sieve = Sieve(read_table(path, [name, value]))
    sieve.require([name, value])
    sieve.convert(value, function)
    sieve.distinct([name], value)
    sieve.finish(max_rejects)
    return sieve
