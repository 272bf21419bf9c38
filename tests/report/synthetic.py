"""A sweep folder made of invented predictions, stored exactly as a sweep stores them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from esmerge.core.methods import MethodKind, MethodRecord
from esmerge.evaluation.metrics import metric_rows
from esmerge.storage.checksums import checksums
from esmerge.tracking.store import REPORTED, RunFolder, config_hash

LABELS = ("no", "yes")
SUITE = {
    "drug_protein": ("Drug\N{EN DASH}protein", "cross_modal"),
    "drug_cell": ("Drug\N{EN DASH}cell", "cross_modal"),
    "drug_drug": ("Drug\N{EN DASH}drug", "drug_drug"),
    "molecule_class": ("Molecule class", "retention"),
    "cell_lineage": ("Cell lineage", "retention"),
}

RECORDS = {
    "majority": MethodRecord(MethodKind.FLOOR, "Majority class", 0),
    "drug_only": MethodRecord(MethodKind.FLOOR, "Drug only", 2),
    "base": MethodRecord(MethodKind.REFERENCE, "Base model", 6),
    **{
        f"expert:{name}": MethodRecord(MethodKind.REFERENCE, f"{name.capitalize()} specialist", 7)
        for name in ("molecule", "protein", "cell")
    },
    "finetuned": MethodRecord(MethodKind.REFERENCE, "Fine-tuned", 8, finetuned=True),
    "average": MethodRecord(MethodKind.MERGE, "Average", 0),
    "task_arithmetic": MethodRecord(MethodKind.MERGE, "Task arithmetic", 1),
    "ties": MethodRecord(MethodKind.MERGE, "TIES", 1),
    "es": MethodRecord(MethodKind.ES, "ES-Merging", 0),
    "es_shuffled": MethodRecord(MethodKind.CONTROL, "ES, coefficients shuffled", 1),
    "es_noise": MethodRecord(MethodKind.CONTROL, "ES, noise for responses", 1),
}


def predictions(accuracy: float, n: int, key: str) -> pd.DataFrame:
    """Exactly ``round(accuracy * n)`` right answers; methods that share ``key`` are right on nested sets."""
    order = np.random.default_rng(hash_of(key)).permutation(n)
    right = np.zeros(n, dtype=bool)
    right[order[: round(accuracy * n)]] = True
    truth = np.arange(n) % 2
    answers = np.where(right, truth, 1 - truth)
    odds = np.where(answers == 1, 1.0, -1.0) + 0.1 * np.sin(np.arange(n))
    return pd.DataFrame(
        {
            "id": [f"q{i}" for i in range(n)],
            "label": [LABELS[i] for i in truth],
            "prediction": [LABELS[i] for i in answers],
            "score": 1 / (1 + np.exp(-odds)),
            "raw_answer": [LABELS[i] for i in answers],
            "score:no": -odds / 2,
            "score:yes": odds / 2,
        }
    )


def hash_of(key: str) -> int:
    return int(config_hash({"key": key}), 16)


def add_run(
    sweep: Path,
    name: str,
    method: str,
    accuracy: Mapping[str, float] | float,
    *,
    seed: int = 0,
    n: int | Mapping[str, int] = 200,
    suite: Mapping[str, tuple[str, str]] = SUITE,
    key: str = "",
    config: Mapping[str, Any] | None = None,
    coefficients: Mapping[str, Sequence[float]] | None = None,
    terms: Mapping[str, Any] | None = None,
    record: MethodRecord | None = None,
    **axes: str,
) -> RunFolder:
    """Store one finished run; ``accuracy`` and ``n``: one number or one per benchmark; ``terms``: how it was asked."""
    run = RunFolder(sweep / name)
    run.write_method(record or RECORDS[method])
    rows, benchmarks = [], {}
    with run.lock(), run.working({"seed": seed, **(config or {})}, "hash"):
        for benchmark, (title, family) in suite.items():
            rate = accuracy if isinstance(accuracy, float) else accuracy[benchmark]
            questions = n if isinstance(n, int) else n[benchmark]
            frame = predictions(rate, questions, f"{benchmark} {seed} {key}")
            run.write_predictions(benchmark, frame)
            facts = {
                "run": name,
                "method": method,
                "seed": seed,
                "benchmark": benchmark,
                "specialists": "textbook",
                **axes,
            }
            rows += [{**facts, **row} for row in metric_rows(frame, LABELS, seed=0, resamples=200)]
            facts = {"title": title, "family": family, "labels": LABELS, "n": questions, "checksum": "0"}
            benchmarks[benchmark] = {**facts, **(terms or {})}
        run.write_metrics(rows)
        run.write_benchmarks(benchmarks)
        if coefficients:
            run.write_coefficients({f"{expert}.layer": torch.tensor(values) for expert, values in coefficients.items()})
    return run


def seal(run: RunFolder) -> None:
    """As if what was written into a finished run since had been written by it."""
    run._write(replace(run.status(), checksums=checksums(run.path, [run.path / name for name in REPORTED])))


def fail_run(sweep: Path, name: str, error: Exception) -> None:
    """Store a run that failed."""
    run = RunFolder(sweep / name)
    try:
        with run.lock(), run.working({}, "hash"):
            raise error
    except type(error):
        pass


def usual_sweep(sweep: Path, seeds: Sequence[int] = (0,), n: int = 200) -> Path:
    """References, three merges, ES at two granularities and a control."""
    plan = {
        "majority": 0.50, "base": 0.56, "expert:molecule": 0.70, "expert:protein": 0.62, "expert:cell": 0.63,
        "finetuned": 0.80, "average": 0.66, "task_arithmetic": 0.84, "ties": 0.82, "es_shuffled": 0.655,
    }  # fmt: skip
    for seed in seeds:
        shift = 0.01 * seed
        for method, rate in plan.items():
            space = "delta" if method in ("task_arithmetic", "ties") else "factors" if method == "average" else ""
            name = f"{method.replace(':', '_')}_{seed}"
            axes = (
                {"granularity": "joint", "merge_space": "factors"}
                if method == "es_shuffled"
                else {"merge_space": space}
            )
            add_run(sweep, name, method, wave(rate + shift), seed=seed, n=n, key=method, **axes)
        for granularity, rate in {"layer": 0.67, "joint": 0.74}.items():
            weights = np.random.default_rng(hash_of(granularity)).dirichlet([6, 6, 6], size=6).T
            add_run(
                sweep, f"es_{granularity}_{seed}", "es", wave(rate + shift), seed=seed, n=n, key=granularity,
                granularity=granularity, merge_space="factors", probe="mixed",
                coefficients=dict(zip(("molecule", "protein", "cell"), weights.tolist(), strict=True)),
            )  # fmt: skip
    return sweep


def wave(rate: float) -> dict[str, float]:
    """Benchmarks differ a little around one rate."""
    return {benchmark: min(1.0, rate + 0.03 * np.cos(2 * place)) for place, benchmark in enumerate(SUITE)}
