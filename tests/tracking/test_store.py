from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from esmerge.core.errors import ConfigError, StoreError
from esmerge.core.methods import MethodKind, MethodRecord
from esmerge.storage.whole_folder import whole_folder
from esmerge.tracking import store
from esmerge.tracking.results import collect, latest_sweep, run_folders, unfinished, write_results
from esmerge.tracking.run_files import RESULT_COLUMNS
from esmerge.tracking.store import RunFolder, config_hash

PREDICTIONS = pd.DataFrame(
    {"id": ["q0", "q1"], "label": ["yes", "no"], "prediction": ["yes", ""], "score": [0.1 + 0.2, 1e-17]}
).assign(raw_answer="a,\nb")


def metric_row(run: str, **cells: object) -> dict[str, object]:
    numbers = {"value": 0.5, "ci_low": 0.25, "ci_high": 0.75, "n": 2}
    return {"run": run, "method": "base", "seed": 0, "benchmark": "x", "metric": "accuracy", **numbers, **cells}


def finish(run: RunFolder, digest: str = "abc") -> None:
    with run.lock(), run.working({"seed": 0}, digest):
        run.write_predictions("x", PREDICTIONS)
        run.write_metrics([metric_row(run.name)])


def test_a_finished_run_is_done_for_its_own_configuration_only(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert run.status().state == "pending" and not run.is_done("abc")
    finish(run)
    assert run.is_done("abc") and not run.is_done("other")
    status = run.status()
    assert status.state == "done" and status.reason is None and status.seconds is not None
    assert run.read_config() == {"seed": 0}


def test_what_a_method_is_survives_a_new_configuration_and_may_be_said_again(tmp_path: Path) -> None:
    run, record = RunFolder(tmp_path / "run"), MethodRecord(MethodKind.CONTROL, "Toy", 3)
    run.write_method(record)
    finish(run)
    finish(run, "other")
    assert run.read_method() == record and isinstance(run.read_method().kind, MethodKind)
    run.write_method(MethodRecord(MethodKind.REFERENCE, "Toy", finetuned=True))
    assert run.is_done("other") and run.read_method().finetuned


def test_predictions_return_exactly(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert run.read_predictions("x") is None
    finish(run)
    pd.testing.assert_frame_equal(run.read_predictions("x"), PREDICTIONS, check_dtype=False)


def test_a_failure_is_recorded_with_its_reason_and_raised(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with pytest.raises(ValueError, match="rank"), run.working({}, "abc"):
        raise ValueError("rank 8 is not rank 16")
    assert (run.status().state, run.status().reason) == ("failed", "ValueError: rank 8 is not rank 16")
    assert not run.is_done("abc")
    assert list(unfinished(tmp_path)) == ["run"]


def test_stages_are_timed_and_add_up(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with run.working({}, "abc"):
        for _ in range(2):
            with run.stage("probe"):
                time.sleep(0.02)
        with run.stage("merge"):
            pass
    stages = run.status().stages
    assert stages["probe"] >= 0.04 > stages["merge"]


def die_half_way(path: Path) -> None:
    run = RunFolder(path)
    with run.lock(), run.working({}, "abc"):
        run.write_predictions("x", PREDICTIONS)
        os._exit(9)


def test_a_killed_run_is_not_done_and_its_finished_predictions_survive(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    process = multiprocessing.get_context("fork").Process(target=die_half_way, args=(run.path,))
    process.start()
    process.join()
    assert run.status().state == "running" and not run.is_done("abc")
    assert run.outcome().state == "failed" and "stopped half-way" in str(run.outcome().reason)
    with run.lock(), run.working({}, "abc"):
        assert run.outcome().state == "running"  # somebody holds the lock
        assert run.read_predictions("x") is not None


def die_half_way_in_a_folder(path: Path) -> None:
    run = RunFolder(path)
    with run.lock(), run.working({}, "abc"), whole_folder(run.path / "adapter") as partial:
        (partial / "adapter_config.json").write_text("{}")
        os._exit(9)


def test_a_run_that_was_killed_while_its_adapter_was_written_goes_on(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    process = multiprocessing.get_context("fork").Process(target=die_half_way_in_a_folder, args=(run.path,))
    process.start()
    process.join()
    assert list(run.path.glob(".adapter.*.partial"))
    finish(run)
    assert run.is_done("abc") and not list(run.path.rglob("*.partial"))


def test_another_configuration_starts_from_nothing(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    finish(run)
    run.write_coefficients({"a.layer": torch.ones(2)})
    with run.working({"seed": 1}, "other"):
        assert run.read_predictions("x") is None
        assert not run.coefficients.exists() and not (run.path / "metrics.csv").exists()


@pytest.mark.parametrize("name", ["metrics.csv", "predictions/x.csv", "status.json", "config.yaml"])
def test_a_finished_run_whose_files_were_damaged_is_told_and_made_again(tmp_path: Path, name: str) -> None:
    run = RunFolder(tmp_path / "run")
    finish(run)
    content = (run.path / name).read_bytes()
    (run.path / name).write_bytes(content[: len(content) // 2])
    assert not run.is_done("abc")
    outcome = run.outcome()
    assert outcome.state == "failed" and name in str(outcome.reason) and "makes it again" in str(outcome.reason)
    assert list(unfinished(tmp_path)) == ["run"] and collect(tmp_path).empty
    finish(run)
    assert run.is_done("abc") and run.outcome().state == "done" and len(collect(tmp_path)) == 1


@pytest.mark.parametrize("content", [": : {", "- a", "one: [", ""])
def test_settings_that_are_none_are_refused_by_file(content: str, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    finish(run)
    (run.path / "config.yaml").write_text(content)
    if content:
        with pytest.raises(StoreError, match=r"config.yaml (is damaged|holds no settings)"):
            run.read_config()
    assert run.outcome().state == "failed"  # its checksum, too


def test_durations_do_not_follow_the_clock_on_the_wall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, clocks = RunFolder(tmp_path / "run"), ["2030-01-01T00:00:00+00:00", "1999-12-31T00:00:00+00:00"]
    monkeypatch.setattr(store, "utc_now", lambda: clocks.pop(0))
    finish(run)
    status = run.status()
    assert run.is_done("abc") and status.finished < status.started and 0 <= status.seconds < 60


def hold(path: Path, log: Path, seconds: float) -> None:
    run = RunFolder(path)
    with run.lock():
        with log.open("a") as handle:
            handle.write("in\n")
        time.sleep(seconds)
        with log.open("a") as handle:
            handle.write("out\n")


def test_two_processes_never_work_on_one_run(tmp_path: Path) -> None:
    context, log = multiprocessing.get_context("fork"), tmp_path / "log"
    processes = [context.Process(target=hold, args=(tmp_path / "run", log, 0.2)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert log.read_text().split() == ["in", "out", "in", "out"]
    assert not RunFolder(tmp_path / "run").is_locked()


def test_coefficients_are_safetensors(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    weights = torch.rand(4, 3).T  # not contiguous
    run.write_coefficients({"mol.layer": weights})
    torch.testing.assert_close(load_file(run.coefficients)["mol.layer"], weights)


def test_results_hold_finished_runs_in_the_promised_columns(tmp_path: Path) -> None:
    for name in ("run_10", "run_2"):
        finish(RunFolder(tmp_path / name))
    with pytest.raises(RuntimeError), RunFolder(tmp_path / "run_3").working({}, "abc"):
        RunFolder(tmp_path / "run_3").write_metrics([metric_row("run_3")])
        raise RuntimeError("out of memory")
    text = write_results(tmp_path).read_text().splitlines()
    axes = "run,specialists,method,granularity,probe,merge_space,seed"
    assert text[0] == f"{axes},benchmark,metric,value,ci_low,ci_high,n"
    assert text[1:] == [f"{name},,base,,,,0,x,accuracy,0.5,0.25,0.75,2" for name in ("run_2", "run_10")]
    assert [run.name for run in run_folders(tmp_path)] == ["run_2", "run_3", "run_10"]


def test_an_undefined_value_is_an_empty_cell(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    nan = float("nan")
    with run.working({}, "abc"):
        run.write_metrics([metric_row("run", metric="auroc", value=nan, ci_low=nan, ci_high=nan)])
    assert write_results(tmp_path).read_text().splitlines()[1] == "run,,base,,,,0,x,auroc,,,,2"
    assert collect(tmp_path)["value"].isna().all()


def test_a_sweep_without_results_has_no_rows(tmp_path: Path) -> None:
    assert tuple(collect(tmp_path).columns) == RESULT_COLUMNS and collect(tmp_path).empty
    with pytest.raises(StoreError, match="no sweep folder"):
        collect(tmp_path / "nothing")


def test_unknown_metric_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="colour"):
        RunFolder(tmp_path / "run").write_metrics([metric_row("run", colour="red")])


def test_a_status_from_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text('{"state": "done", "mood": "good"}')
    with pytest.raises(StoreError, match="mood"):
        RunFolder(tmp_path).status()


def test_the_latest_sweep_is_the_one_that_changed_last(tmp_path: Path) -> None:
    for name in ("older", "newer"):
        finish(RunFolder(tmp_path / name / "run"))
    os.utime(tmp_path / "older" / "run" / "status.json", (1, 1))
    assert latest_sweep(tmp_path) == tmp_path / "newer"
    with pytest.raises(StoreError, match="no sweep was found"):
        latest_sweep(tmp_path / "older")


def test_the_hash_ignores_order_and_sees_every_value() -> None:
    base = {"a": 1, "b": {"c": [1, 2], "d": None}}
    assert config_hash(base) == config_hash({"b": {"d": None, "c": [1, 2]}, "a": 1})
    assert config_hash(base) != config_hash({"a": 1, "b": {"c": [2, 1], "d": None}})
    assert len(config_hash(base)) == 12
    # printf '{"a":1}' | sha256sum
    assert config_hash({"a": 1}) == "015abd7f5cc5"
    with pytest.raises(ConfigError, match="cannot be hashed"):
        config_hash({"a": object()})
