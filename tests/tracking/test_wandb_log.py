from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from esmerge.coefficients.summary import summarise
from esmerge.core.errors import ConfigError, TrackingError
from esmerge.tracking.store import RunFolder
from esmerge.tracking.wandb_log import Tracking, check_login, log_run

ROWS = [{"run": "r", "method": "es", "granularity": "joint", "benchmark": "x", "metric": "accuracy", "value": 0.5}]
PLAIN = """
import json, sys, time
from pathlib import Path
from safetensors.torch import load_file
from esmerge.coefficients.summary import summarise
from esmerge.core.arrays import as_arrays
from esmerge.tracking.store import RunFolder
from esmerge.tracking.wandb_log import Tracking, log_run
run, rows = RunFolder(Path(sys.argv[1]) / "r"), json.loads(sys.argv[2])
coefficients = (run.coefficients, summarise(as_arrays(load_file(run.coefficients))))
seconds = [
    log_run(Tracking(), run, {"seed": 0}, "sweep", "r", "merge", rows, {"map": Path(sys.argv[3])}, coefficients)
    for _ in range(3)
]
print(json.dumps({"seconds": seconds, "error": run.status().tracking_error}))
"""


@pytest.fixture()
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "sweep" / "r")
    with folder.working({}, "abc"):
        folder.write_coefficients({"mol.layer": torch.tensor([0.2, 0.8]), "cell.layer": torch.tensor([0.8, 0.2])})
    return folder


@pytest.fixture()
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home: no key, no netrc."""
    home = tmp_path / "home"
    home.mkdir()
    for name in [name for name in os.environ if name.startswith("WANDB_")] + ["NETRC"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    return home


def listen() -> tuple[str, list[int], socket.socket]:
    """A proxy that only counts who calls."""
    server, calls = socket.create_server(("127.0.0.1", 0)), []

    def count() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            calls.append(1)
            connection.close()

    threading.Thread(target=count, daemon=True).start()
    return f"http://127.0.0.1:{server.getsockname()[1]}", calls, server


def test_offline_needs_no_account_no_network_and_no_prompt(run: RunFolder, no_account: Path, tmp_path: Path) -> None:
    picture = tmp_path / "map.png"
    Figure(figsize=(1, 1)).savefig(picture)
    proxy, calls, server = listen()
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    proxies = {name: proxy for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")}
    environment = {**os.environ, **proxies, "PYTHONPATH": os.getcwd()}
    arguments = [sys.executable, "-c", PLAIN, str(run.path.parent), json.dumps(ROWS), str(picture)]
    silent = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL}
    done = subprocess.run(arguments, cwd=cwd, env=environment, timeout=60, check=True, **silent)
    server.close()
    said = json.loads(done.stdout)  # nothing else is printed
    assert done.stderr == "" and said["error"] is None
    assert max(said["seconds"][1:]) < 1.5
    assert calls == []
    assert list(cwd.iterdir()) == [] and list(no_account.rglob("*")) == []
    files = [path.name for path in (run.path.parent / "wandb").rglob("*")]
    assert sum(name.endswith(".wandb") for name in files) == 3
    assert any(name.startswith("metrics") and name.endswith(".table.json") for name in files)
    assert any(name.endswith(".png") for name in files)


def test_the_logged_run_says_what_it_is(run: RunFolder, no_account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}

    class Fake:
        id = "1"
        summary: dict[str, float] = {}

        def __getattr__(self, name: str):
            return lambda *arguments, **named: seen.setdefault(name, (arguments, named))

    import wandb

    monkeypatch.setattr(wandb, "init", lambda **named: seen.update(named) or Fake())
    rows = [*ROWS, {**ROWS[0], "metric": "auroc", "value": float("nan")}]
    log_run(
        Tracking(entity="us"),
        run,
        {"a": 1},
        "sweep",
        "r",
        "merge",
        rows,
        {},
        (run.coefficients, summarise({"a.layer": np.array([0.5])})),
    )
    assert (seen["group"], seen["name"], seen["job_type"], seen["entity"]) == ("sweep", "r", "merge", "us")
    assert seen["tags"] == ["es", "joint"] and seen["config"] == {"a": 1}
    assert Fake.summary == {"x/accuracy": 0.5}
    assert seen["finish"] == ((), {"exit_code": 0}) and "log_artifact" in seen


def test_a_failure_while_logging_is_recorded_and_not_raised(run: RunFolder, no_account: Path) -> None:
    with pytest.warns(UserWarning, match="was not tracked by W&B .*nothing.png"):
        log_run(Tracking(), run, {}, "sweep", "r", "merge", ROWS, {"map": Path("nothing.png")}, None)
    status = run.status()
    assert status.state == "done" and "nothing.png" in str(status.tracking_error)


def test_disabled_does_nothing(run: RunFolder) -> None:
    assert log_run(Tracking(mode="disabled"), run, {}, "s", "r", "merge", ROWS, {}, None) == 0.0
    assert not (run.path.parent / "wandb").exists()


def test_online_without_a_key_is_refused_before_work(no_account: Path) -> None:
    with pytest.raises(TrackingError, match="wandb login.*tracking=offline"):
        check_login(Tracking(mode="online"))
    check_login(Tracking(mode="offline"))
    check_login(Tracking(mode="disabled"))


def test_online_with_a_key_is_accepted(no_account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (no_account / ".netrc").write_text("machine api.wandb.ai login user password not-a-real-key\n")
    check_login(Tracking(mode="online"))
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    with pytest.raises(TrackingError, match="wandb.example.org"):
        check_login(Tracking(mode="online"))
    monkeypatch.setenv("WANDB_API_KEY", "not-a-real-key")
    check_login(Tracking(mode="online"))


@pytest.mark.parametrize("mode", ["offline", "online", "disabled"])
def test_every_config_fits_the_settings(mode: str) -> None:
    path = Path(__file__).resolve().parents[2] / "conf" / "tracking" / f"{mode}.yaml"
    assert Tracking(**OmegaConf.load(path)).mode == mode
    assert f"# python -m src.sweep tracking={mode}" in path.read_text()


def test_unknown_modes_are_refused() -> None:
    with pytest.raises(ConfigError, match="'onlin' must be one of offline, online, disabled"):
        Tracking(mode="onlin")


def test_the_environment_is_restored(run: RunFolder, no_account: Path) -> None:
    before = dict(os.environ)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log_run(Tracking(), run, {}, "s", "r", "merge", ROWS, {}, None)
    assert dict(os.environ) == before
