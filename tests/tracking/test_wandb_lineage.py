"""Where a W&B run comes from: artifacts in offline runs, and the graph that a server has once they are sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from tests.tracking.fake_server import fake_server
from tests.tracking.offline import OfflineRun, read_offline

from esmerge.core.errors import ConfigError, StoreError
from esmerge.core.methods import MethodKind, MethodRecord
from esmerge.experiment.wandb_groups import log_missing
from esmerge.tracking.lineage import (
    FILE,
    Lineage,
    SignalsSource,
    SpecialistSource,
    read_lineage,
    record_files,
    write_lineage,
)
from esmerge.tracking.store import RunFolder
from esmerge.tracking.wandb_log import log_run
from esmerge.tracking.wandb_record import is_on_server, read_logged
from esmerge.tracking.wandb_settings import Tracking
from esmerge.tracking.wandb_shared import PROBES
from esmerge.tracking.wandb_sync import send

EXPERTS = ("mol", "cell")
CONFIG = {"seed": 0, "specialists": {"name": "tiny"}, "probe": {"name": "mixed"}}


@pytest.fixture(autouse=True)
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("MODE", "PROJECT", "ENTITY", "DIR", "API_KEY", "BASE_URL"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)


def lineage(home: Path) -> Lineage:
    """Two specialists and a probe's signals, in folders beside the sweep."""
    specialists = []
    for name in EXPERTS:
        folder = home / "cache" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "adapter_model.safetensors").write_bytes(name.encode() * 100)
        files = record_files(folder, ["adapter_model.safetensors"])
        specialists.append(SpecialistSource(name, name, "tiny", f"{name}0123456789ab", "bb", str(folder), files))
    signals = home / "cache" / "signals"
    signals.mkdir(exist_ok=True)
    (signals / "signals.safetensors").write_bytes(b"s" * 2_000_000)
    files = record_files(signals, ["signals.safetensors"])
    return Lineage(tuple(specialists), SignalsSource("mixed", "5195a15f00d0aa", str(signals), files, 330, 1.5))


def finished_merge(sweep: Path, name: str) -> RunFolder:
    run = RunFolder(sweep / name)
    row = {"run": name, "method": "es", "benchmark": "x", "metric": "accuracy", "value": 0.5, "n": 1}
    with run.working(CONFIG, "abc"):
        run.write_method(MethodRecord(MethodKind.ES, "ES-Merging"))
        run.write_coefficients({"mol.layer": torch.tensor([0.2, 0.8]), "cell.layer": torch.tensor([0.8, 0.2])})
        (run.path / "adapter").mkdir(exist_ok=True)
        (run.path / "adapter" / "adapter_model.safetensors").write_bytes(name.encode())
        answers = {"id": ["a"], "label": ["Y"], "prediction": ["Y"], "score": [0.9], "raw_answer": [" Yes"]}
        run.write_predictions("x", pd.DataFrame(answers))
        run.write_benchmarks({"x": {"title": "X", "family": "retention"}})
        run.write_metrics([row])
        write_lineage(run.path, lineage(sweep.parent))
    return run


def log(run: RunFolder, tracking: Tracking) -> OfflineRun:
    log_run(tracking, run, CONFIG, run.path.parent.name, run.name, "merge", [], {})
    assert run.status().tracking_error is None
    return shown_by(run.path)


def shown_by(record: Path) -> OfflineRun:
    logged_run = read_logged(record)
    assert logged_run is not None
    return read_offline(Path(logged_run.folder))


def artifacts(wandb_run: OfflineRun) -> dict[str, Any]:
    return {artifact.type: artifact for artifact in wandb_run.artifacts}


def test_a_merge_is_made_of_specialists_signals_coefficients_and_its_adapter(tmp_path: Path) -> None:
    wandb_run = log(finished_merge(tmp_path / "main", "es-s0"), Tracking())
    assert [artifact.type for artifact in wandb_run.artifacts] == [
        *("specialist", "specialist", "probe-signals", "coefficients", "adapter", "predictions"),
    ]
    inputs = [artifact.type for artifact in wandb_run.artifacts if artifact.use_after_commit]
    outputs = [artifact.type for artifact in wandb_run.artifacts if not artifact.user_created]
    assert inputs == ["specialist", "specialist", "probe-signals", "coefficients", "adapter"]
    assert outputs == ["coefficients", "adapter", "predictions"]  # what goes on is both: coefficients -> run -> adapter
    by_type = {kind: json.loads(artifact.metadata) for kind, artifact in artifacts(wandb_run).items()}
    names = {kind: artifact.name for kind, artifact in artifacts(wandb_run).items()}
    assert by_type["probe-signals"]["made_from"] == [a.name for a in wandb_run.artifacts if a.type == "specialist"]
    assert by_type["coefficients"]["made_from"] == [names["probe-signals"]]
    assert by_type["adapter"]["made_from"] == [names["coefficients"]]
    assert by_type["predictions"]["made_from"] == [names["adapter"]]


def test_what_runs_share_is_one_artifact_and_the_probe_is_logged_once(tmp_path: Path) -> None:
    runs = [log(finished_merge(tmp_path / "main", name), Tracking()) for name in ("es-s0", "es-s1")]
    first, second = ([(a.name, a.digest) for a in run.artifacts if a.user_created] for run in runs)
    assert first == second and len(first) == 3
    (record,) = (tmp_path / "main" / PROBES).iterdir()
    probe = shown_by(record)
    assert (probe.run.job_type, probe.run.run_group, probe.exit_code) == ("probe", "main", 0)
    assert [a.type for a in probe.artifacts if not a.user_created] == ["probe-signals"]
    assert (probe.artifacts[-1].name, probe.artifacts[-1].digest) == first[-1]
    assert (probe.summary["prompts"], probe.summary["seconds"]) == (330, 1.5)
    assert probe.config["probe"] == {"name": "mixed"}


@pytest.mark.parametrize(("upload", "sent"), [(1.0, False), (3.0, True), (None, True)])
def test_large_files_stand_by_size_and_checksum_unless_they_are_asked_for(
    upload: float | None, sent: bool, tmp_path: Path
) -> None:
    wandb_run = log(finished_merge(tmp_path / "main", "es-s0"), Tracking(upload=upload))
    files = {entry.path: entry for entry in artifacts(wandb_run)["probe-signals"].manifest.contents}
    assert ("signals.safetensors" in files) is sent
    content = json.loads(Path(files["content.json"].local_path).read_text())
    assert content["files"]["signals.safetensors"]["bytes"] == 2_000_000
    assert len(content["files"]["signals.safetensors"]["sha256"]) == 64
    copies = [
        path for path in (tmp_path / "main" / "wandb").rglob("*") if path.is_file() and path.stat().st_size > 10**6
    ]
    assert not copies  # sent from where they lie


def test_nothing_that_is_sent_names_a_folder_of_this_machine(tmp_path: Path) -> None:
    wandb_run = log(finished_merge(tmp_path / "main", "es-s0"), Tracking(upload=0.0))
    for artifact in wandb_run.artifacts:
        (file,) = artifact.manifest.contents
        assert str(tmp_path) not in artifact.metadata + Path(file.local_path).read_text()


def test_a_floor_has_predictions_and_no_inputs(tmp_path: Path) -> None:
    run = finished_merge(tmp_path / "main", "floor")
    for name in (FILE, "coefficients.safetensors", "adapter/adapter_model.safetensors"):
        (run.path / name).unlink()
    wandb_run = log(run, Tracking())
    assert [(a.type, a.use_after_commit) for a in wandb_run.artifacts] == [("predictions", False)]


def test_artifacts_that_cannot_be_made_cost_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished_merge(tmp_path / "main", "es-s0")
    monkeypatch.setattr("esmerge.tracking.wandb_artifacts.record_files", refuse)
    with pytest.warns(UserWarning, match="es-s0 has no artifacts on W&B .*out of reach"):
        log_run(Tracking(), run, CONFIG, "main", "es-s0", "merge", run.read_metrics().to_dict("records"), {})
    assert shown_by(run.path).summary["x/accuracy"] == 0.5 and shown_by(run.path).exit_code == 0
    assert run.status().state == "done" and "out of reach" in str(run.status().tracking_error)


def refuse(*arguments: object) -> None:
    raise OSError("out of reach")


def test_a_damaged_lineage_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"specialists": [{}]}')
    with pytest.raises(StoreError, match="lineage.json does not say what the run was made of"):
        read_lineage(tmp_path)
    assert read_lineage(tmp_path / "elsewhere") == Lineage()


def test_an_upload_below_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="tracking.upload=-1: expected a number of MB from 0, or null"):
        Tracking(upload=-1)


def test_a_server_has_the_graph_after_the_runs_are_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`wandb sync` itself, against a server on this machine; the sweep was moved after it was logged."""
    for name in ("es-s0", "es-s1"):
        log(finished_merge(tmp_path / "before", name), Tracking(upload=1.0))
    sweep = (tmp_path / "before").rename(tmp_path / "main")
    with fake_server() as graph:
        monkeypatch.setenv("WANDB_BASE_URL", graph.address)
        monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
        first = send(log_missing(sweep, Tracking(upload=1.0)))
        assert all(is_on_server(logged_run) for logged_run in first.now)
        second = send(log_missing(sweep, Tracking(upload=1.0)))
    assert not second.now and len(second.before) == len(first.now)
    (probe,) = [name for name, _, job_type in graph.runs.values() if job_type == "probe"]
    assert graph.kinds(graph.used, probe) == {"specialist"} and graph.kinds(graph.made, probe) == {"probe-signals"}
    for run in ("es-s0", "es-s1"):
        assert graph.kinds(graph.used, run) == {"specialist", "probe-signals", "coefficients", "adapter"}
        assert graph.kinds(graph.made, run) == {"coefficients", "adapter", "predictions"}
    assert sorted(kind for kind, _, _ in graph.artifacts.values()).count("specialist") == 2
    weights = [name for name in graph.uploads if name.endswith("adapter_model.safetensors") and "specialist" in name]
    assert len(weights) == len(set(weights)) == 2 and not [name for name in graph.uploads if "signals.saf" in name]
