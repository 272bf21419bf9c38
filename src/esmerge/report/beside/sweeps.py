"""Answers of a sweep folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from esmerge.report.beside.types import AnsweredSet, Answers, Key
from esmerge.report.load import SweepResults, flatten, load_sweep


def read_sweep_answers(folder: Path) -> Answers:
    """Every finished row of a sweep with its predictions.

    Raises:
        StoreError: the folder is absent or damaged.
    """
    sweep = load_sweep(folder)
    unfinished = [*sweep.failures, *sweep.awaited]
    return Answers(
        name=folder.resolve().name,
        methods={row.title: _answered(sweep, row.runs) for row in sweep.rows},
        settings={row.title: flatten(sweep.run(row.key).read_config()) for row in sweep.rows},
        titles={benchmark.name: benchmark.title for benchmark in sweep.benchmarks},
        notes=(f"not finished and left out: {', '.join(unfinished)}.",) if unfinished else (),
    )


def _answered(sweep: SweepResults, runs: Mapping[str, str]) -> dict[Key, AnsweredSet]:
    sets: dict[Key, AnsweredSet] = {}
    for seed, name in runs.items():
        run = sweep.run(name)
        for benchmark, description in run.read_benchmarks().items():
            frame = run.read_predictions(benchmark)
            if frame is not None:
                answers = frame[["id", "label", "prediction"]]
                sets[seed, benchmark] = AnsweredSet(answers, str(description.get("checksum", "")))
    return sets
