"""The benchmarks that a sweep evaluates on."""

from __future__ import annotations

from dataclasses import replace

from esmerge.core.prompts import Benchmark
from esmerge.core.timing import stage
from esmerge.experiment.config import Sweep
from esmerge.tasks.load import load_benchmark


def load_suite(sweep: Sweep) -> tuple[Benchmark, ...]:
    """The suite's benchmarks with the split that the sweep names as their test split.

    Tables are read once per process, so that every run may ask for its suite.
    """
    request = sweep.suite_request()
    with stage("benchmarks"):
        benchmarks = tuple(load_benchmark(request, name) for name in request.names)
    if sweep.split != "validation":
        return benchmarks
    return tuple(on_validation(benchmark) for benchmark in benchmarks)


def on_validation(benchmark: Benchmark, limit: int | None = None) -> Benchmark:
    """A benchmark whose test split is its validation split, or the first ``limit`` questions of it."""
    return replace(benchmark, title=f"{benchmark.title} (validation)", test=benchmark.validation[:limit])
