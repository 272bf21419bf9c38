"""What a sweep records beside its results: its benchmarks, and which rows were refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from esmerge.core.prompts import Benchmark
from esmerge.experiment.config import Sweep
from esmerge.storage.files import write_table
from esmerge.tasks.load import terms

REJECT_COLUMNS = ["row", "reason"]


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


def write_rejects(folder: Path, suite: Sequence[Benchmark]) -> None:
    """Keep every refused row with its reason as ``rejects/<benchmark>.csv`` in the sweep folder, once."""
    for benchmark in suite:
        path = folder / "rejects" / f"{benchmark.name}.csv"
        if benchmark.rejects and not path.exists():
            rows = [(reject.row, reject.reason) for reject in benchmark.rejects]
            write_table(path, pd.DataFrame(rows, columns=REJECT_COLUMNS))
