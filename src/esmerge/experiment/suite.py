"""The benchmarks that a sweep evaluates on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pandas as pd

from esmerge.core.compose import compose_choices
from esmerge.core.prompts import Benchmark
from esmerge.core.timing import stage
from esmerge.data.splits import sample
from esmerge.experiment.config import Sweep
from esmerge.specialists.soft_tokens.refusals import EncoderRefusals
from esmerge.storage.cache import Cache
from esmerge.tasks.load import load_benchmark, terms


def load_suite(sweep: Sweep) -> tuple[Benchmark, ...]:
    """The suite's benchmarks with the split that the sweep names as their test split.

    ``benchmark.limit`` holds for the validation split as well: a seeded, label-stratified sample.

    Tables are read once per process, so that every run may ask for its suite. Questions about entities that the
    specialists' released encoders refuse are rejects, for runs without a model as well: all are asked the same.
    """
    request, refusals = sweep.suite_request(), encoder_refusals(sweep)
    with stage("benchmarks"):
        benchmarks = tuple(load_benchmark(request, name, refusals) for name in request.names)
    if sweep.split != "validation":
        return benchmarks
    limits = {name: cast("int | None", terms(request, name)["limit"]) for name in request.names}
    return tuple(on_validation(benchmark, limits[benchmark.name], sweep.seed) for benchmark in benchmarks)


def families(names: Sequence[str], benchmark: Mapping[str, object]) -> dict[str, str]:
    """Name of each benchmark that is asked -> the family that its config says; no table is read.

    Args:
        names: of the suite.
        benchmark: the settings of all of them, or the whole config of one that is asked in their place.

    Raises:
        ConfigError: there is no benchmark of that name.
    """
    if (own := benchmark.get("name")) is not None:
        return {str(own): str(benchmark.get("family"))}
    return {name: str(config.get("family")) for name, config in compose_choices("benchmark", names).items()}


def on_validation(benchmark: Benchmark, limit: int | None = None, seed: int = 0) -> Benchmark:
    """A benchmark whose test split is its validation split, or a label-stratified sample of ``limit`` questions of it.

    Questions stand in their table's order, whose beginning may have one answer more often than the whole.
    """
    answers = pd.DataFrame({"answer": [example.answer for example in benchmark.validation]})
    selected = sample(answers, limit, seed, f"{benchmark.name}-tuning").index
    questions = tuple(benchmark.validation[index] for index in selected)
    return replace(benchmark, title=f"{benchmark.title} (validation)", test=questions)


def encoder_refusals(sweep: Sweep) -> EncoderRefusals | None:
    """What the specialists' encoders refuse; None where none of them was released by others."""
    released = sweep.specialists.settings.released_encoders()
    return EncoderRefusals(released, Cache(Path(sweep.cache)), repr(sweep.specialists)) if released else None
