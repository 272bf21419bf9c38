"""Jobs of a multirun or search: all are checked first, the bad ones are named at once, and the good ones run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from omegaconf import OmegaConf
from tests.front_door import run_sweep

import esmerge.cli.sweep
import esmerge.experiment.pipeline
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
    assert "no trial of the search was completed" in code and "\n" not in code
    assert states(tmp_path / "s") == ["job failed", "job failed"] and (tmp_path / "s" / "table.md").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hydra.sweeper.direction=maximize"], "split=test: a search must not see test questions"),
        (["split=validation"], "direction=minimize"),
        ([*VALIDATION, "granularity=choice(layer,deep)"], "granularity=deep does not exist"),
        (
            [*VALIDATION, "tuning=validation"],
            "tuning.objective='cross_modal': expected all or one of retention, the families of molecule_class: add "
            "tuning.objective=all",
        ),
    ],
)
def test_a_search_that_could_not_find_anything_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], message: str
) -> None:
    code = sweep(monkeypatch, tmp_path / "s", *SEARCH, *overrides, "granularity.tau=interval(0.1,0.5)")
    assert message in code and "\n" not in code and not (tmp_path / "s").exists()


def test_settings_are_not_tuned_on_the_questions_that_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("method=ties", "split=validation", "tuning=validation", "tuning.objective=all")
    refused = sweep(monkeypatch, tmp_path / "s", *words)
    assert refused and "would be chosen on the questions that are reported" in f"{refused} {capsys.readouterr()}"


def test_a_search_without_a_range_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = sweep(monkeypatch, tmp_path / "s", *SEARCH, *VALIDATION)
    assert "nothing is searched, so every trial would be the same" in code and not (tmp_path / "s").exists()


def test_a_trial_whose_objective_has_no_benchmark_fails_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objectives = "tuning.objective=choice(cross_modal,retention)"
    search = (*SEARCH, *VALIDATION, "tuning=validation", "hydra.sweeper.n_trials=5", "benchmark.limit=8")
    with pytest.warns(UserWarning, match="failed: job .: tuning.objective='cross_modal'.*molecule_class"):
        assert sweep(monkeypatch, tmp_path / "s", *search, objectives) == 1
    assert states(tmp_path / "s") == ["job failed", "majority done"]


def test_tuning_for_what_no_benchmark_asks_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("suite.benchmarks=[drug_drug,cell_lineage]", "method=average,majority", "tuning=validation")
    with pytest.warns(UserWarning, match="failed: job 0: tuning.objective"):
        assert sweep(monkeypatch, tmp_path / "s", *words, "benchmark.limit=8") == 1
    assert (
        "job 0 (method=average): tuning.objective='cross_modal': expected all or one of drug_drug, retention, the "
        "families of drug_drug, cell_lineage: add tuning.objective=all" in capsys.readouterr().err
    )
    assert states(tmp_path / "s") == ["job failed", "majority done"], "what is not tuned has no objective"


def test_a_suite_and_a_benchmark_on_one_command_line_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(globals(), "COMMON", [word for word in COMMON if not word.startswith("suite.")])
    assert sweep(monkeypatch, tmp_path / "s", "benchmark=drug_drug", "suite=real") == 1
    assert "benchmark=drug_drug and suite=real both say what is asked: leave one of them out" in capsys.readouterr().err
    words = ["suite.benchmarks=[molecule_class]", "benchmark=drug_drug", f"hydra.run.dir={tmp_path}/s"]
    code = run_sweep(monkeypatch, *COMMON, *words)
    assert code == (
        "error: benchmark=drug_drug and suite.benchmarks=[molecule_class] both say what is asked: leave one of them out"
    )
    assert not (tmp_path / "s").exists()


def test_failures_of_an_earlier_command_are_named_apart_and_decide_no_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = esmerge.experiment.pipeline.answer_suite

    def broken(spec: Any, *rest: Any) -> Any:
        if spec.label == "partner_only":
            raise RuntimeError("on fire")
        return real(spec, *rest)

    monkeypatch.setattr(esmerge.experiment.pipeline, "answer_suite", broken)
    with pytest.warns(UserWarning):
        assert sweep(monkeypatch, tmp_path / "s", "references=[partner_only]", "benchmark.limit=8,0") == 1
    assert states(tmp_path / "s") == ["job failed", "majority done", "partner_only failed"]
    assert "of an earlier command" not in capsys.readouterr().out
    assert sweep(monkeypatch, tmp_path / "s", "benchmark.limit=8") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("of an earlier command: ")]
    (run,) = (tmp_path / "s").glob("partner_only-*")
    assert f"of an earlier command: {run.name} failed (RuntimeError: on fire); delete {run} or run it again" in lines
    assert any("job 1: benchmark.limit=0" in line for line in lines) and len(lines) == 2
    with pytest.warns(UserWarning):
        assert sweep(monkeypatch, tmp_path / "s", "references=[partner_only]", "benchmark.limit=8") == 1
    search = (*SEARCH, *VALIDATION, "hydra.sweeper.n_trials=2", "benchmark.limit=choice(8,12)")
    assert sweep(monkeypatch, tmp_path / "s", *search) == 0
    with pytest.warns(UserWarning):
        assert sweep(monkeypatch, tmp_path / "s", *search, "references=[partner_only]") == 1


def test_jobs_that_could_start_are_told_apart_from_what_cannot_be_composed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("tuning=none,validation", "tuning.trials=choice(3)")
    assert sweep(monkeypatch, tmp_path / "s", *words) == 1
    output = capsys.readouterr().err
    assert "job 0 (tuning=none): tuning.trials is no setting of what is chosen here: --cfg job" in output
    assert "the other job starts once nothing that cannot be composed stands beside" in output


def test_a_search_prints_plain_lines(tmp_path: Path) -> None:
    words = [*COMMON, *SEARCH, *VALIDATION, "hydra.sweeper.n_trials=4", "benchmark.limit=choice(8,0)"]
    places = [f"hydra.sweep.dir={tmp_path}/s", f"cache={tmp_path}/cache"]
    run = subprocess.run(
        [sys.executable, "-m", "src.sweep", "-m", *words, *places], capture_output=True, text=True, check=False
    )
    assert "warning: failed: job" in run.stderr and "UserWarning" not in run.stderr and "fail_job(" not in run.stderr
    assert "study" not in run.stderr and "\x1b" not in run.stderr
