"""Numbers of the report: means over benchmarks, intervals, spread over seeds, and who differs from whom."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from esmerge.core.errors import InputError
from esmerge.core.methods import MethodKind
from esmerge.evaluation.intervals import mean_of_shares
from esmerge.evaluation.significance import PairedDifference, holm
from esmerge.report.evaluated import FAMILIES, EvaluatedBenchmark
from esmerge.report.load import Accuracy, Row, SweepResults
from esmerge.report.paired import paired_rows
from esmerge.report.seeds import has_all, ranked_rows

LEVEL = 0.05
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
        published: whether it is a mean that the paper gives, over benchmarks of its choice.
    """

    name: str
    title: str
    family: str
    benchmarks: tuple[str, ...]
    published: bool = False

    @property
    def is_mean(self) -> bool:
        return len(self.benchmarks) > 1


@dataclass(frozen=True)
class Cell:
    """Accuracy of a row in a column: the mean over seeds.

    Attributes:
        low, high: 95 % interval over examples (of the mean over seeds): Wilson's, of several benchmarks combined.
        sd: sample standard deviation over seeds; None for one seed.
    """

    value: float
    low: float
    high: float
    sd: float | None
    seeds: int


@dataclass(frozen=True)
class Comparison:
    """A row against another in one column; ``p_holm`` is corrected for all comparisons of its set."""

    row: Row
    other: Row
    column: Column
    result: PairedDifference
    p_holm: float = 1.0

    @property
    def significant(self) -> bool:
        return self.p_holm < LEVEL


def columns(sweep: SweepResults) -> list[Column]:
    """Benchmarks by family; after each family its mean, then the published means whose benchmarks are all here."""
    return benchmark_columns(sweep.benchmarks)


def benchmark_columns(benchmarks: Sequence[EvaluatedBenchmark]) -> list[Column]:
    """The same of some benchmarks."""
    table_columns: list[Column] = []
    names = {benchmark.name for benchmark in benchmarks}
    for family in dict.fromkeys(benchmark.family for benchmark in benchmarks):
        members = [benchmark for benchmark in benchmarks if benchmark.family == family]
        family_names = tuple(benchmark.name for benchmark in members)
        table_columns += [Column(member.name, member.title, family, (member.name,)) for member in members]
        if len(members) > 1:
            table_columns.append(Column(f"{family}_mean", f"{family_title(family)} mean", family, family_names))
        for name, (title, averaged) in PUBLISHED_MEANS.items():
            if names.issuperset(averaged) and averaged[0] in family_names:
                table_columns.append(Column(name, title, family, averaged, published=True))
    return table_columns


def headline(sweep: SweepResults) -> list[Column]:
    """One column per family of a sweep's benchmarks."""
    return family_columns(sweep.benchmarks)


def family_columns(benchmarks: Sequence[EvaluatedBenchmark]) -> list[Column]:
    """One column per family: its mean, or its only benchmark."""
    by_family = {column.family: column for column in benchmark_columns(benchmarks) if not column.published}
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
    key = "cell", row.key, column  # asked for by the table, the figures and every comparison
    if key not in sweep.memo:
        sweep.memo[key] = _cell(sweep, row, column)
    stored: Cell | None = sweep.memo[key]
    return stored


def _cell(sweep: SweepResults, row: Row, column: Column) -> Cell | None:
    if not has_all(sweep, row, column.benchmarks):
        return None
    by_seed = [_accuracies(sweep, run, column) for run in row.runs.values()]
    values = np.array([[accuracy.value for accuracy in run] for run in by_seed], dtype=float)  # (seeds, benchmarks)
    n = np.array([[accuracy.n for accuracy in run] for run in by_seed], dtype=int)
    means = values.mean(axis=1)
    sd = float(means.std(ddof=1)) if len(means) > 1 else None
    low, high = mean_of_shares(  # the same examples may return under every seed, so further seeds do not narrow it
        values.mean(axis=0).tolist(), n.min(axis=0).tolist()
    )
    return Cell(float(means.mean()), low, high, sd, len(means))


def compare(sweep: SweepResults, row: Row, other: Row, column: Column) -> Comparison:
    """Paired comparison over the seeds that both rows have.

    Raises:
        InputError: they share no seed, or were not asked the same examples.
    """
    key = "comparison", row.key, other.key, column
    if key not in sweep.memo:
        seeds = [seed for seed in row.runs if seed in other.runs]
        if not seeds:
            raise InputError(
                f"{row.title} and {other.title} share no seed: a paired comparison needs the same examples"
            )
        sweep.memo[key] = Comparison(row, other, column, paired_rows(sweep, row, other, seeds, column.benchmarks))
    stored: Comparison = sweep.memo[key]
    return stored


def correct(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """The comparisons of one set with Holm's correction over all of them."""
    uncorrected = list(comparisons)
    adjusted = holm([comparison.result.p_value for comparison in uncorrected])
    return [replace(comparison, p_holm=p) for comparison, p in zip(uncorrected, adjusted, strict=True)]


def best_row(sweep: SweepResults, rows: Sequence[Row], column: Column) -> Row | None:
    """The row with the highest accuracy in a column, the earlier of equals; None if none is complete.

    Rows that lack seeds which others in the table have are left out: a mean over easier seeds is no better mean.
    """
    ranked = ranked_rows(sweep, rows, column.benchmarks)
    scored = [(score.value, -index) for index, row in enumerate(ranked) if (score := cell(sweep, row, column))]
    return ranked[-max(scored)[1]] if scored else None


def best_baseline(sweep: SweepResults, column: Column) -> Row | None:
    """The merge to beat: the best that is not ES; without one, the best of base model and specialists."""
    references = [row for row in sweep.of_kind(MethodKind.REFERENCE) if not row.record.finetuned]
    return best_row(sweep, sweep.of_kind(MethodKind.MERGE), column) or best_row(sweep, references, column)


def against_baseline(sweep: SweepResults) -> tuple[list[Comparison], list[str]]:
    """Every ES row against the best baseline of each column, corrected over all of them.

    In a sweep without ES rows it is every merge against the best one. Rows that lack seeds are not compared.

    Returns:
        The comparisons, and a note for each that could not be made.
    """
    comparisons, notes = [], []
    for column in columns(sweep):
        baseline = best_baseline(sweep, column)
        rows = sweep.of_kind(MethodKind.ES) or sweep.of_kind(MethodKind.MERGE)
        for row in ranked_rows(sweep, rows, column.benchmarks):
            if baseline is None or row is baseline:
                continue
            try:
                comparisons.append(compare(sweep, row, baseline, column))
            except InputError as error:
                notes.append(f"{column.title}: {row.title} and {baseline.title} were not compared: {error}")
    return correct(comparisons), notes


def _accuracies(sweep: SweepResults, run: str, column: Column) -> list[Accuracy]:
    """Accuracies of a run on the benchmarks of a column that it has."""
    accuracies = (sweep.accuracy(run, benchmark) for benchmark in column.benchmarks)
    return [accuracy for accuracy in accuracies if accuracy is not None]
