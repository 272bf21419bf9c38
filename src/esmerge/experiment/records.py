"""What a sweep records beside its results: its benchmarks, and which rows were refused."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from filelock import FileLock

from esmerge.core.prompts import Benchmark
from esmerge.experiment.config import Sweep
from esmerge.storage.files import read_table, write_table
from esmerge.tasks.load import terms

REJECT_COLUMNS = ["row", "reason", "seed", "questions"]
LIST = ["seed", "questions"]  # of those, what tells the lists of one benchmark apart


def describe_benchmark(benchmark: Benchmark, sweep: Sweep) -> dict[str, object]:
    """A benchmark's title, labels and sizes, and how its questions were selected."""
    return {
        "title": benchmark.title,
        "family": benchmark.family,
        "labels": [label.strip() for label in benchmark.labels],
        "n": len(benchmark.test),
        "checksum": benchmark.checksum,
        "rejects": len(benchmark.rejects),
        "shortened": len(benchmark.shortened),
        **terms(sweep.suite_request(), benchmark.name),
    }


def write_rejects(folder: Path, suite: Sequence[Benchmark], seed: int) -> None:
    """Keep every refused row with its reason in ``rejects/<benchmark>.csv`` of the sweep folder.

    Runs of other seeds or settings may refuse other rows: each list stands there once, whole, under its seed and a hash
    of questions and rejects in the column ``questions``. Several processes may write at once.
    """
    refused = [benchmark for benchmark in suite if benchmark.rejects]
    if not refused:
        return
    (folder / "rejects").mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".rejects.lock"):
        for benchmark in refused:
            _add_rejects(folder / "rejects" / f"{benchmark.name}.csv", benchmark, str(seed))


def _add_rejects(path: Path, benchmark: Benchmark, seed: str) -> None:
    made_of = ([(example.id, example.answer) for example in benchmark.test], benchmark.rejects)
    questions = hashlib.sha256(repr(made_of).encode()).hexdigest()[:12]
    stored = read_table(path).reindex(columns=REJECT_COLUMNS, fill_value="") if path.exists() else None
    if stored is not None and (stored[LIST] == [seed, questions]).all(axis=1).any():
        return
    rows = [(reject.row, reject.reason, seed, questions) for reject in benchmark.rejects]
    table = pd.DataFrame(rows, columns=REJECT_COLUMNS)
    write_table(path, table if stored is None else pd.concat([stored, table], ignore_index=True))
