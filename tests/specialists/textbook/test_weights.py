"""The weights that come with the program: they fit the default settings, passed their exam, and need no training."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
import torch
from tests.conftest import composed

from esmerge.core.paths import CONF, WEIGHTS
from esmerge.experiment import context
from esmerge.experiment.config import read_sweep
from esmerge.experiment.models import Models, load_models
from esmerge.experiment.suite import load_suite
from esmerge.specialists.shipped import CARD, ShippedStages
from esmerge.storage.cache import digest

SEEDS = (0, 1, 2)
AGREEMENT = 0.999  # least share of questions that are answered alike


def folder(seed: int) -> Path:
    return WEIGHTS / "textbook" / f"seed{seed}"


@pytest.fixture
def threads() -> Iterator[None]:
    """Puts the number of threads back, and forgets the specialists that were loaded."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    context._SPECIALISTS.clear()


def models(cache: Path, *overrides: str) -> Models:
    return load_models(read_sweep(composed("specialists=textbook", f"cache={cache}", *overrides)))


@pytest.mark.parametrize("seed", SEEDS)
def test_its_card_is_that_of_the_default_settings_and_of_a_passed_exam(seed: int) -> None:
    card = ShippedStages(folder(seed)).card
    settings = asdict(read_sweep(composed("specialists=textbook")).specialists.settings)
    settings.pop("retrain")
    assert card["config_hash"] == digest(settings), "the defaults changed: write the weights again with `make weights`"
    assert card["seed"] == seed and f"seed={seed} specialists.retrain=true" in str(card["command"])
    exam = json.loads((folder(seed) / CARD).read_text())["exam"]
    assert exam["passed"] and all(exam["figures"][name] >= least for name, least in exam["required"].items())
    assert min(value for name, value in exam["figures"].items() if "gain" in name) > 0.05, "each perceives something"


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_trained_for_the_default_sweep(seed: int, tmp_path: Path, threads: None) -> None:
    sweep = read_sweep(composed("specialists=textbook", f"seed={seed}", f"cache={tmp_path / 'cache'}"))
    loaded, suite = load_models(sweep), load_suite(sweep)
    tuned = {benchmark.name for benchmark in suite if loaded.finetuned(benchmark).modules}
    assert tuned == set(sweep.suite.benchmarks) and set(loaded.adapters) == {"molecule", "protein", "cell"}
    assert not (tmp_path / "cache").exists(), "neither trained nor copied"


def test_they_are_a_few_megabytes_of_float32() -> None:
    for seed in SEEDS:
        assert sum(path.stat().st_size for path in folder(seed).rglob("*") if path.is_file()) < 10e6
    loaded = ShippedStages(folder(0)).card
    assert str(loaded["number_format"]).startswith("float32")


def test_answers_do_not_depend_on_the_number_of_threads(tmp_path: Path, threads: None) -> None:
    answers: dict[int, list[pd.DataFrame]] = {}
    options = ("suite.benchmarks=[drug_protein,drug_drug]", "benchmark.limit=60")
    for count in (1, 2):
        torch.set_num_threads(count)
        loaded = models(tmp_path / str(count), *options)
        suite = load_suite(read_sweep(composed("specialists=textbook", *options)))
        answers[count] = [
            loaded.predict(adapter, benchmark)
            for adapter, benchmark in zip((None, loaded.adapters["molecule"]), suite, strict=True)
        ]
    for single, double in zip(answers[1], answers[2], strict=True):
        assert (single["prediction"] == double["prediction"]).mean() >= AGREEMENT
        assert abs(single["score"] - double["score"]).max() < 1e-3


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_sweep_answers_alike_with_one_thread_and_with_two(tmp_path: Path) -> None:
    words = ("granularity=layer,element,joint", "tracking=disabled", "references=[base,expert,finetuned,average,ties]")
    for count in (1, 2):
        process = subprocess.run(
            [
                *(sys.executable, "-m", "src.sweep", "-m", *words, f"compute.threads={count}"),
                *(f"cache={tmp_path / 'cache'}{count}", f"hydra.sweep.dir={tmp_path / str(count)}"),
            ],
            cwd=CONF.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == 0 and "is trained now" not in process.stderr, process.stderr[-2000:]
    pairs = {path.relative_to(tmp_path / "1"): path for path in (tmp_path / "1").glob("*/predictions/*.csv")}
    columns = {"one": list(pairs.values()), "two": [tmp_path / "2" / name for name in pairs]}
    single, double = (
        pd.concat([pd.read_csv(path, keep_default_na=False) for path in paths])["prediction"].to_numpy()
        for paths in columns.values()
    )
    assert len(single) == len(double) >= 70_000 and (single == double).mean() >= AGREEMENT


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", [0, 3])
def test_a_retrained_world_passes_the_same_exam(seed: int, tmp_path: Path, threads: None) -> None:
    specialists = models(tmp_path, f"seed={seed}", "specialists.retrain=true").context.specialists
    assert specialists.exam is not None and specialists.stages is not None
    exam = specialists.exam(specialists)
    assert not exam.failures() and exam.required == ShippedStages(folder(0)).card["exam"]["required"]  # type: ignore[index]
    assert {stage.folder.parents[1] for stage in specialists.stages.stages.values()} == {tmp_path}, "all of it trained"
