"""Numbers of the report: means over benchmarks, intervals, spread over seeds, and who differs from whom."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd

from esmerge.core.errors import InputError
from esmerge.core.methods import MethodKind
from esmerge.evaluation.significance import PairedDifference, holm, paired_difference, stack
from esmerge.report.load import FAMILIES, Row, SweepResults

LEVEL = 0.05
RESAMPLES = 10_000
PUBLISHED_MEANS = {
    "molecule_protein_mean": ("Molecule\N{EN DASH}protein mean", ("bindingdb", "human", "biosnap")),
    "molecule_cell_mean": ("Molecule\N{EN DASH}cell mean", ("gdsc2", "drugcomb")),
}


@dataclass(frozen=True)
class Column:
    """A benchmark, or the plain mean over several.

    Attributes:
        name: the benchmark's name, ``<family>_mean``, or the name of a published mean.
        benchmarks: the names that are averaged.
    """

    name: str
    title: str
    family: str
    benchmarks: tuple[str, ...]

    @property
    def is_mean(self) -> bool:
        return len(self.benchmarks) > 1


@dataclass(frozen=True)
class Cell:
    """Accuracy of a row in a column: the mean over seeds.

    Attributes:
        low, high: 95 % interval over examples (of the mean over seeds).
        sd: sample standard deviation over seeds; None for one seed.
    """

    value: float
    low: float
    high: float
    sd: float | None
    seeds: int


@dataclass(frozen=True)
class Comparison:
    """A row against another in one column; ``p_holm`` is corrected over the set it was made in."""

    row: Row
    other: Row
    column: Column
    result: PairedDifference
    p_holm: float = 1.0

    @property
    def significant(self) -> bool:
        return self.p_holm < LEVEL


def columns(sweep: SweepResults) -> list[Column]:
    """Benchmarks by family; each family is closed by its mean, and by the published means whose parts are all here."""
    found: list[Column] = []
    names = {one.name for one in sweep.benchmarks}
    for family in dict.fromkeys(one.family for one in sweep.benchmarks):
        mine = [one for one in sweep.benchmarks if one.family == family]
        found += [Column(one.name, one.title, family, (one.name,)) for one in mine]
        if len(mine) > 1:
            parts = tuple(one.name for one in mine)
            found.append(Column(f"{family}_mean", f"{family_title(family)} mean", family, parts))
        for name, (title, parts) in PUBLISHED_MEANS.items():
            if names.issuperset(parts) and parts[0] in {one.name for one in mine}:
                found.append(Column(name, title, family, parts))
    return found


def headline(sweep: SweepResults) -> list[Column]:
    """One column per family: its mean, or its only benchmark."""
    by_family = {column.family: column for column in columns(sweep) if column.name not in PUBLISHED_MEANS}
    return list(by_family.values())  # a family's mean comes last and wins


def family_title(family: str) -> str:
    """What a reader calls a family."""
    return FAMILIES.get(family, family.replace("_", " ").capitalize())


def heading(column: Column) -> str:
    """A family, and what its number is."""
    name = family_title(column.family)
    if column.is_mean:
        return f"{name} (mean of {len(column.benchmarks)} benchmarks)"
    return name if column.title == name else f"{name} ({column.title})"


def cell(sweep: SweepResults, row: Row, column: Column) -> Cell | None:
    """A row's accuracy in a column; None unless every run of the row has every benchmark of the column."""
    parts = [[sweep.value(run, benchmark) for benchmark in column.benchmarks] for run in row.runs.values()]
    if any(part is None for run in parts for part in run):
        return None
    values = np.array([[part["value"] for part in run if part] for run in parts], dtype=float)  # (seeds, benchmarks)
    means = values.mean(axis=1)
    sd = float(means.std(ddof=1)) if len(means) > 1 else None
    if values.size == 1 and parts[0][0]:
        low, high = float(parts[0][0]["ci_low"]), float(parts[0][0]["ci_high"])
    else:
        low, high = _mean_interval(values, np.array([[part["n"] for part in run if part] for run in parts], dtype=int))
    return Cell(float(means.mean()), low, high, sd, len(means))


def compare(sweep: SweepResults, row: Row, other: Row, column: Column) -> Comparison:
    """Paired comparison over the seeds that both rows have.

    Raises:
        InputError: they share no seed, or were not asked the same examples.
    """
    seeds = [seed for seed in row.runs if seed in other.runs]
    if not seeds:
        raise InputError(f"{row.title} and {other.title} share no seed: a paired comparison needs the same examples")
    pooled = [_pooled(sweep, one, seeds, column) for one in (row, other)]
    return Comparison(row, other, column, paired_difference(pooled[0], pooled[1], seed=0, resamples=RESAMPLES))


def correct(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """The comparisons of one set with Holm's correction over all of them."""
    made = list(comparisons)
    adjusted = holm([one.result.p_value for one in made])
    return [replace(one, p_holm=p) for one, p in zip(made, adjusted, strict=True)]


def best(sweep: SweepResults, rows: Sequence[Row], column: Column) -> Row | None:
    """The row with the highest accuracy in a column, the earlier of equals; None if none is complete."""
    scored = [(found.value, -place) for place, row in enumerate(rows) if (found := cell(sweep, row, column))]
    return rows[-max(scored)[1]] if scored else None


def best_baseline(sweep: SweepResults, column: Column) -> Row | None:
    """The merge to beat: the best that is not ES; without one, the best of base model and specialists."""
    references = [row for row in sweep.of_kind(MethodKind.REFERENCE) if not row.record.finetuned]
    return best(sweep, sweep.of_kind(MethodKind.MERGE), column) or best(sweep, references, column)


def against_baseline(sweep: SweepResults) -> tuple[list[Comparison], list[str]]:
    """Every ES row against the best baseline of each column, corrected over all of them.

    Returns:
        The comparisons, and a note for each that could not be made.
    """
    made, notes = [], []
    for column in columns(sweep):
        baseline = best_baseline(sweep, column)
        for row in sweep.of_kind(MethodKind.ES) if baseline else []:
            if baseline is None or cell(sweep, row, column) is None:
                continue
            try:
                made.append(compare(sweep, row, baseline, column))
            except InputError as error:
                notes.append(f"{column.title}: {row.title} and {baseline.title} were not compared: {error}")
    return correct(made), notes


def _pooled(sweep: SweepResults, row: Row, seeds: Sequence[str], column: Column) -> pd.DataFrame:
    parts = {}
    for seed in seeds:
        for benchmark in column.benchmarks:
            predictions = sweep.run(row.runs[seed]).read_predictions(benchmark)
            if predictions is None:
                raise InputError(f"run {row.runs[seed]} has no predictions for {benchmark}: run the sweep again")
            parts[seed, benchmark] = predictions
    return stack(parts)


def _mean_interval(values: np.ndarray, n: np.ndarray) -> tuple[float, float]:
    """Bootstrap interval of a mean of accuracies.

    The same examples may return under every seed, so further seeds do not narrow it.

    values, n: (seeds, benchmarks).
    """
    return _binomial_interval(tuple(values.mean(axis=0).tolist()), tuple(n.min(axis=0).tolist()))


@lru_cache(maxsize=1024)  # a cell is asked for by the table, the figures and every comparison
def _binomial_interval(shares: tuple[float, ...], n: tuple[int, ...]) -> tuple[float, float]:
    """Of the mean of ``shares``; resampling n right-or-wrong answers is drawing a binomial."""
    drawn = np.random.default_rng(0).binomial(n, shares, size=(RESAMPLES, len(n))) / np.array(n)
    low, high = np.percentile(drawn.mean(axis=1), [2.5, 97.5])
    return float(low), float(high)
