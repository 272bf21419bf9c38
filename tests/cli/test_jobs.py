"""Jobs of a multirun or search: all are checked first, the bad ones are named at once, and the good ones run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from omegaconf import OmegaConf
from tests.front_door import run_sweep

import esmerge.cli.sweep
from esmerge.tracking.results import run_folders
from esmerge.tracking.store import RunFolder

COMMON = ["specialists=textbook_tiny", "suite.benchmarks=[molecule_class]", "references=[]", "method=majority",
          "compute.resamples=20", "tracking=disabled"]  # fmt: skip
SEARCH = ["hydra/sweeper=optuna", "hydra.sweeper.n_jobs=1", "hydra.sweeper.sampler.seed=0"]
VALIDATION = ["split=validation", "hydra.sweeper.direction=maximize"]


def sweep(monkeypatch: pytest.MonkeyPatch, folder: Path, *overrides: str) -> Any:
    """Run a multirun here; returns what the process would exit with."""
    arguments = ["-m", *COMMON, f"cache={folder.parent}/cache", f"hydra.sweep.dir={folder}", *overrides]
    return run_sweep(monkeypatch, *arguments)


def states(folder: Path) -> list[str]:
    return sorted(f"{run.name.split('-')[0]} {run.outcome().state}" for run in run_folders(folder))


def failed_job(folder: Path) -> RunFolder:
    (path,) = folder.glob("job-*")
    return RunFolder(path)


def test_bad_jobs_are_named_before_the_first_starts_and_the_good_ones_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    messages: list[str] = []
    real = esmerge.cli.sweep.run_job

    def watched(*arguments: Any) -> Any:
        messages.append(capsys.readouterr().err)
        return real(*arguments)

    monkeypatch.setattr(esmerge.cli.sweep, "run_job", watched)
    with pytest.warns(UserWarning, match=r"failed: job 1: benchmark\.limit=0"):
        assert sweep(monkeypatch, tmp_path / "s", "benchmark.limit=12,0,8,-1") == 1
    assert "2 of 4 jobs are refused" in messages[0] and "job 1 (benchmark.limit=0): benchmark.limit=0" in messages[0]
    assert "job 3 (benchmark.limit=-1)" in messages[0] and len(messages) == 2
    assert states(tmp_path / "s") == ["job failed", "job failed", "majority done", "majority done"]
    assert set(pd.read_csv(tmp_path / "s" / "results.csv")["n"]) == {12, 8}
    output = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "2 runs have no results" in output and "benchmark.limit=-1: expected a whole number" in output


def test_a_job_that_breaks_fails_alone_and_a_repeat_mends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = esmerge.cli.sweep.run_job

    def broken(job: Any, folder: Path) -> Any:
        if job.benchmark["limit"] == 12:
            raise OSError("No space left on device")
        return real(job, folder)

    monkeypatch.setattr(esmerge.cli.sweep, "run_job", broken)
    with pytest.warns(UserWarning, match="failed: job 0: OSError: No space left on device"):
        assert sweep(monkeypatch, tmp_path / "s", "benchmark.limit=12,8") == 1
    assert states(tmp_path / "s") == ["job failed", "majority done"]
    assert "benchmark.limit=12" in OmegaConf.load(failed_job(tmp_path / "s").path / "config.yaml").overrides
    monkeypatch.setattr(esmerge.cli.sweep, "run_job", real)
    assert sweep(monkeypatch, tmp_path / "s", "benchmark.limit=12,8") == 0
    assert states(tmp_path / "s") == ["majority done", "majority done"]


def test_nothing_starts_where_every_job_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(monkeypatch, tmp_path / "s", "benchmark.limit=0,-1") == 1
    assert "2 of 2 jobs are refused" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_choices_that_do_not_exist_are_all_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(monkeypatch, tmp_path / "s", "granularity=layer,deep,wide") == 1
    output = capsys.readouterr().err
    assert "granularity=deep does not exist" in output and "granularity=wide does not exist" in output
    assert "Traceback" not in output


def test_joblib_loses_no_job_to_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    joblib = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert sweep(monkeypatch, tmp_path / "s", "benchmark.limit=0,12", *joblib) == 1
    assert states(tmp_path / "s") == ["job failed", "majority done"]
    assert failed_job(tmp_path / "s").status().reason.startswith("job 0: benchmark.limit=0")
    assert (tmp_path / "s" / "table.md").exists()


def test_a_refused_trial_does_not_end_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = (*SEARCH, *VALIDATION, "hydra.sweeper.n_trials=5", "benchmark.limit=choice(12,0)")
    with pytest.warns(UserWarning, match=r"failed: job \d: benchmark\.limit=0"):
        assert sweep(monkeypatch, tmp_path / "s", *search) == 1
    assert states(tmp_path / "s") == ["job failed", "majority done"]
    best = OmegaConf.load(tmp_path / "s" / "optimization_results.yaml")
    accuracy = pd.read_csv(tmp_path / "s" / "results.csv").query("metric == 'accuracy'")["value"].item()
    assert best.best_value == pytest.approx(accuracy) and best.best_params["benchmark.limit"] == 12


def test_a_search_without_a_trial_that_ran_ends_with_one_line_and_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = (*SEARCH, *VALIDATION, "hydra.sweeper.n_trials=2", "granularity.tau=interval(-2.0,-1.0)")
    with pytest.warns(UserWarning, match="must be greater than 0"):
        code = sweep(monkeypatch, tmp_path / "s", *search)
    assert "No trials are completed" in code and "\n" not in code
    assert states(tmp_path / "s") == ["job failed", "job failed"] and (tmp_path / "s" / "table.md").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hydra.sweeper.direction=maximize"], "split=test: a search must not see test questions"),
        (["split=validation"], "direction=minimize"),
        ([*VALIDATION, "granularity=choice(layer,deep)"], "granularity=deep does not exist"),
    ],
)
def test_a_search_that_could_not_find_anything_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], message: str
) -> None:
    code = sweep(monkeypatch, tmp_path / "s", *SEARCH, *overrides, "granularity.tau=interval(0.1,0.5)")
    assert message in code and "\n" not in code and not (tmp_path / "s").exists()
