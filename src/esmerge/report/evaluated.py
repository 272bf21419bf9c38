"""Benchmarks as the runs of a sweep were evaluated on them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import pandas as pd

FAMILIES = {
    "cross_modal": "Cross-modal",
    "drug_drug": "Drug\N{EN DASH}drug",
    "single_modal": "Single-modal",
    "retention": "Retention",
}
WHOLE_SPLIT = "published"  # the table's own split: the only one that others were asked on
PARTIAL = re.compile(r"\((.*\b(?:subset|partial|only)\b.*)\)")  # how the title of a table that is not whole says so


@dataclass(frozen=True)
class EvaluatedBenchmark:
    """One benchmark as the runs of a sweep were evaluated on it.

    Attributes:
        departures: what tells its questions from those of a published number, over all runs: a sample of them, a
            split made here, a table that is not whole. Empty where they are the same, or where nothing was stored.
        rejects: rows of its tables that were refused, in the run with most of them.
        fewest_rejects: in the run with fewest; seeds and settings may refuse other rows.
    """

    name: str
    title: str
    family: str
    departures: tuple[str, ...] = ()
    rejects: int = 0
    fewest_rejects: int = 0


def departures(description: Mapping[str, object]) -> list[str]:
    """What tells a benchmark's questions from those of a published number.

    Args:
        description: as ``benchmarks.json`` holds it; ``limit`` and ``split`` may be absent or None.
    """
    partial = PARTIAL.search(str(description["title"]))
    limit, split = description.get("limit"), description.get("split")
    return [
        *([f"table: {partial[1]}"] if partial else []),
        *([f"at most {limit} test questions (benchmark.limit={limit})"] if limit is not None else []),
        *(["nothing that the specialists have seen (benchmark.seen)"] if description.get("seen") else []),
        *([f"split made here (benchmark.split={split})"] if split not in (None, WHOLE_SPLIT) else []),
    ]


def evaluated_benchmarks(
    results: pd.DataFrame, descriptions: Iterable[Mapping[str, Mapping[str, object]]]
) -> tuple[EvaluatedBenchmark, ...]:
    """The benchmarks of all runs by family, with what the runs' ``benchmarks.json`` say of them."""
    by_name: dict[str, EvaluatedBenchmark] = {}
    for of_run in descriptions:
        for name, description in of_run.items():
            first = EvaluatedBenchmark(name, str(description["title"]), str(description["family"]))
            benchmark = by_name.setdefault(name, first)
            union = dict.fromkeys([*benchmark.departures, *departures(description)])
            count = int(str(description.get("rejects") or 0))
            most = max(benchmark.rejects, count)
            fewest = count if benchmark is first else min(benchmark.fewest_rejects, count)
            by_name[name] = replace(benchmark, departures=tuple(union), rejects=most, fewest_rejects=fewest)
    for name in results["benchmark"].unique():
        by_name.setdefault(name, EvaluatedBenchmark(name, name, "other"))
    families = [*FAMILIES, *sorted({benchmark.family for benchmark in by_name.values()} - set(FAMILIES))]
    return tuple(sorted(by_name.values(), key=lambda benchmark: families.index(benchmark.family)))  # a stable sort
