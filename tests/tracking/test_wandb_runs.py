"""Offline W&B runs read back: what they show, over seeds too, and that what is missing on the server is sent once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tests.tracking.offline import OfflineRun, read_offline

from esmerge.coefficients.summary import summarise
from esmerge.core.errors import ConfigError, TrackingError
from esmerge.core.methods import MethodKind, MethodRecord
from esmerge.experiment.wandb_groups import log_methods_over_seeds, log_missing, over_seeds
from esmerge.report.load import load_sweep
from esmerge.tracking import wandb_sync
from esmerge.tracking.store import RunFolder
from esmerge.tracking.wandb_content import layer_steps, prediction_rows
from esmerge.tracking.wandb_log import log_failed_run, log_run
from esmerge.tracking.wandb_record import LoggedRun, read_logged, write_logged
from esmerge.tracking.wandb_run import Identity
from esmerge.tracking.wandb_settings import Tracking
from esmerge.tracking.wandb_shared import SEEDS
from esmerge.tracking.wandb_sync import send

ACCURACY = {"0": 0.5, "1": 0.7}  # by seed
DISTANCES = [
    {"expert": "mol", "modality": "molecule", "own": True, "layer": layer, "distance": 0.5 * layer, "increment": 0.5}
    for layer in (0, 1)
]
WEIGHTS = {"mol.layer": torch.tensor([0.2, 0.8]), "cell.layer": torch.tensor([0.8, 0.2])}


@pytest.fixture(autouse=True)
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("MODE", "PROJECT", "ENTITY", "DIR"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)


def rows_of(seed: str) -> list[dict[str, object]]:
    axes = {"run": f"es-s{seed}", "specialists": "t", "method": "es", "granularity": "joint", "probe": "mixed"}
    row = {**axes, "merge_space": "factors", "seed": seed, "benchmark": "x", "metric": "accuracy"}
    return [{**row, "value": ACCURACY[seed], "ci_low": 0.1, "ci_high": 0.9, "n": 4}]


def finished_run(sweep: Path, seed: str) -> RunFolder:
    run = RunFolder(sweep / f"es-s{seed}")
    with run.working({"seed": int(seed), "method": {"name": "es"}}, "abc"):
        run.write_method(MethodRecord(MethodKind.ES, "ES-Merging"))
        run.write_coefficients(WEIGHTS)
        run.write_layer_distances(DISTANCES)
        columns = {"label": list("YNYN"), "prediction": list("YYYN"), "score": [0.9, 0.6, np.nan, 0.1]}
        run.write_predictions("x", pd.DataFrame({"id": list("abcd"), **columns, "raw_answer": " Yes", "score:Y": 0.1}))
        run.write_benchmarks({"x": {"title": "X", "family": "retention"}})
        run.write_metrics(rows_of(seed))
    return run


@pytest.fixture()
def sweep(tmp_path: Path) -> Path:
    for seed in ACCURACY:
        finished_run(tmp_path / "main", seed)
    return tmp_path / "main"


def log(run: RunFolder, tracking: Tracking) -> OfflineRun:
    summary = summarise({name: tensor.numpy() for name, tensor in WEIGHTS.items()})
    rows = rows_of(run.name[-1])
    log_run(tracking, run, run.read_config(), "main", run.name, "merge", rows, {}, (run.coefficients, summary))
    assert run.status().tracking_error is None
    return shown_by(run.path)


def shown_by(record: Path) -> OfflineRun:
    logged_run = read_logged(record)
    assert logged_run is not None and logged_run.mode == "offline"
    return read_offline(Path(logged_run.folder))


def media(wandb_run: OfflineRun, record: Path, name: str) -> dict[str, Any]:
    """A table that a run shows."""
    logged_run, (entry,) = read_logged(record), [row[name] for row in wandb_run.history if name in row]
    assert logged_run is not None
    return json.loads((Path(logged_run.folder) / "files" / entry["path"]).read_text())


def test_a_run_shows_charts_along_layers_and_its_first_predictions(sweep: Path) -> None:
    run = RunFolder(sweep / "es-s0")
    wandb_run = log(run, Tracking(predictions=3))
    assert (wandb_run.run.run_group, wandb_run.run.job_type, wandb_run.run.display_name) == ("main", "merge", "es-s0")
    assert wandb_run.config["method"] == {"name": "es"} and wandb_run.exit_code == 0
    charts = [row for row in wandb_run.history if "layer" in row]
    assert [row["layer"] for row in charts] == [0, 1]
    assert [row["coefficient/mol"] for row in charts] == pytest.approx([0.2, 0.8])
    assert [row["distance/mol on molecule"] for row in charts] == [0.0, 0.5]
    assert [row["increment/mol on molecule"] for row in charts] == [0.5, 0.5]
    table = media(wandb_run, run.path, "predictions")
    assert table["columns"] == ["benchmark", "id", "label", "prediction", "correct", "score", "raw_answer"]
    assert table["data"] == [
        ["x", "a", "Y", "Y", True, 0.9, " Yes"],
        ["x", "b", "N", "Y", False, 0.6, " Yes"],
        ["x", "c", "Y", "Y", True, None, " Yes"],
    ]


def test_the_table_of_predictions_has_a_limit(sweep: Path) -> None:
    run = RunFolder(sweep / "es-s0")
    assert [len(prediction_rows(run, limit)) for limit in (0, 1, 100)] == [0, 1, 4]
    with pytest.raises(ConfigError, match="tracking.predictions=-1: expected a number of rows from 0"):
        Tracking(predictions=-1)


def test_a_merge_without_distances_has_its_coefficients_along_layers() -> None:
    summary = summarise({name: tensor.numpy() for name, tensor in WEIGHTS.items()})
    assert [set(step) for step in layer_steps(summary, None)] == [{"layer", "coefficient/mol", "coefficient/cell"}] * 2


def test_a_run_that_failed_is_shown_as_failed(sweep: Path) -> None:
    run = RunFolder(sweep / "es-s0")
    log_failed_run(Tracking(), run, {"seed": 0}, Identity("main", "es-s0", "merge"), "RuntimeError: on fire")
    (folder,) = (sweep / "wandb").glob("offline-run-*")
    wandb_run = read_offline(folder)
    assert wandb_run.exit_code == 1 and wandb_run.summary["failure"] == "RuntimeError: on fire"
    logged_run = read_logged(run.path)
    assert logged_run is not None and logged_run.failed  # it does not stand for the run's results
    wandb_run = log(run, Tracking())
    assert wandb_run.run.run_id == logged_run.id and wandb_run.exit_code == 0 and "failure" not in wandb_run.summary


def test_a_method_is_shown_over_its_seeds_once(sweep: Path) -> None:
    log_methods_over_seeds(load_sweep(sweep), Tracking())
    (record,) = (sweep / SEEDS).iterdir()
    wandb_run = shown_by(record)
    assert (
        wandb_run.run.job_type == "seeds"
        and wandb_run.run.run_group == "main"
        and wandb_run.config["seeds"] == ["0", "1"]
    )
    assert wandb_run.summary["x/accuracy"] == pytest.approx(0.6)
    assert wandb_run.summary["x/accuracy sd"] == pytest.approx(np.std([0.5, 0.7], ddof=1))
    log_methods_over_seeds(load_sweep(sweep), Tracking())
    assert len(list((sweep / "wandb").glob("offline-run-*"))) == 1
    ACCURACY["2"] = 0.9
    try:
        finished_run(sweep, "2")
    finally:
        del ACCURACY["2"]
    log_methods_over_seeds(load_sweep(sweep), Tracking())
    assert shown_by(record).summary["x/accuracy"] == pytest.approx(0.7)
    assert shown_by(record).run.run_id == wandb_run.run.run_id


def test_means_and_deviations_are_by_benchmark_and_metric() -> None:
    frame = pd.DataFrame({"benchmark": list("xxy"), "metric": "accuracy", "value": [0.5, 0.7, 0.9]})
    first, second = over_seeds(frame)
    assert first["mean"] == pytest.approx(0.6) and first["sd"] == pytest.approx(0.02**0.5) and first["seeds"] == 2
    assert second["mean"] == 0.9 and np.isnan(second["sd"])


class Client:
    """In place of ``wandb sync``: marks what it sends as the client does, but for the folders that it refuses."""

    def __init__(self) -> None:
        self.sent: list[Path] = []
        self.refused = 0

    def __call__(self, command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[:8] == [sys.executable, "-m", "wandb", "sync", "--yes", "--skip-synced", "-n", "1"]
        folders = [Path(word) for word in command[8:]]
        for folder in folders[self.refused :]:
            (file,) = folder.glob("*.wandb")
            file.with_name(f"{file.name}.synced").touch()
            self.sent.append(folder)
        stderr = "wandb: ERROR permission denied\nwandb: run.wandb\n" if self.refused else ""
        return subprocess.CompletedProcess(command, 0, "", stderr)


@pytest.fixture()
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    client = Client()
    monkeypatch.setattr(wandb_sync.subprocess, "run", client)
    return client


def test_what_is_missing_is_logged_and_sent_and_nothing_twice(sweep: Path, client: Client) -> None:
    log(RunFolder(sweep / "es-s0"), Tracking())  # the other run was never tracked
    client.refused = 1
    with pytest.raises(TrackingError, match=r"1 of 3 W&B runs were not sent, .*permission denied; the same command"):
        send(log_missing(sweep, Tracking()))
    client.refused = 0
    first = send(log_missing(sweep, Tracking()))
    assert (len(first.now), len(first.before)) == (1, 2)
    second = send(log_missing(sweep, Tracking()))
    assert (len(second.now), len(second.before)) == (0, 3)
    assert len(client.sent) == len(set(client.sent)) == 3
    wandb_run = shown_by(sweep / "es-s1")  # made from what is stored
    assert wandb_run.summary["x/accuracy"] == 0.7 and [row["layer"] for row in wandb_run.history if "layer" in row] == [
        0,
        1,
    ]
    assert any("layer coefficients" in row for row in wandb_run.history)


def test_a_sweep_may_be_moved_before_it_is_sent(sweep: Path, client: Client) -> None:
    log(RunFolder(sweep / "es-s0"), Tracking())
    folder = sweep.rename(sweep.with_name("elsewhere"))
    logged_run = read_logged(folder / "es-s0")
    assert logged_run is not None and len(send([logged_run]).now) == 1


def test_runs_that_were_logged_online_are_not_sent(tmp_path: Path, client: Client) -> None:
    outcome = send([LoggedRun("a", "online", str(tmp_path))])
    assert (len(outcome.now), len(outcome.before), client.sent) == (0, 1, [])


def test_files_that_are_gone_are_named(tmp_path: Path, client: Client) -> None:
    write_logged(tmp_path, LoggedRun("a", "offline", str(tmp_path / "wandb" / "offline-run-a")))
    logged_run = read_logged(tmp_path)
    assert logged_run is not None
    with pytest.raises(TrackingError, match="offline-run-a holds no W&B files of run a"):
        send([logged_run])
