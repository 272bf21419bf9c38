"""Over which seeds a mean is taken: means over different seeds stand in one table but are not ranked there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from esmerge.report.load import Row, SweepResults

MEANING = "A row that lacks seeds which the row with most has says so, and is neither ranked nor tested."


def full_seeds(sweep: SweepResults, benchmarks: Sequence[str]) -> frozenset[str]:
    """The seeds of the row with most of them, among the rows with all of some benchmarks; empty if there is none.

    Of equally many seeds it is those that more rows have.
    """
    counts = Counter(row.seeds for row in sweep.rows if has_all(sweep, row, benchmarks))
    return max(counts, key=lambda seeds: (len(seeds), counts[seeds]), default=frozenset())


def has_all(sweep: SweepResults, row: Row, benchmarks: Sequence[str]) -> bool:
    """Whether every run of a row has an accuracy on each of some benchmarks."""
    return all(sweep.accuracy(run, name) is not None for run in row.runs.values() for name in benchmarks)


def ranked_rows(sweep: SweepResults, rows: Sequence[Row], benchmarks: Sequence[str]) -> list[Row]:
    """Those of some rows whose means over some benchmarks are over the seeds of the row with most."""
    full = full_seeds(sweep, benchmarks)
    return [row for row in rows if row.seeds >= full and has_all(sweep, row, benchmarks)]


def seed_notes(sweep: SweepResults) -> dict[str, str]:
    """Row key -> ``2 of 3 seeds``, for the rows that lack seeds of the row with most on a benchmark that both have."""
    notes: dict[str, dict[str, None]] = {}
    for benchmark in sweep.benchmarks:
        full = full_seeds(sweep, [benchmark.name])
        for row in sweep.rows:
            if not row.seeds >= full and has_all(sweep, row, [benchmark.name]):
                notes.setdefault(row.key, {})[_note(row.seeds, full)] = None
    return {key: " or ".join(texts) for key, texts in notes.items()}


def with_note(title: str, note: str) -> str:
    """A row's title, and over how many seeds its means are if these are not all."""
    return f"{title}, {note}" if note else title


def _note(seeds: frozenset[str], full: frozenset[str]) -> str:
    if seeds < full:
        return f"{len(seeds)} of {len(full)} seeds"
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(sorted(seeds))}"
