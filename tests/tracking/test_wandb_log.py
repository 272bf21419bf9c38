from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from tests.conftest import composed

from esmerge.coefficients.summary import summarise
from esmerge.core.errors import ConfigError, TrackingError
from esmerge.core.schema import plain, typed
from esmerge.tracking.store import RunFolder
from esmerge.tracking.wandb_client import SERVICE
from esmerge.tracking.wandb_log import log_run
from esmerge.tracking.wandb_record import read_logged
from esmerge.tracking.wandb_run import restart_client
from esmerge.tracking.wandb_settings import Tracking, check_login

ROWS = [{"run": "r", "method": "es", "granularity": "joint", "benchmark": "x", "metric": "accuracy", "value": 0.5}]
PLAIN = """
import json, sys, time
from pathlib import Path
from safetensors.torch import load_file
from esmerge.coefficients.summary import summarise
from esmerge.core.arrays import as_arrays
from esmerge.tracking.store import RunFolder
from esmerge.tracking.wandb_log import log_run
from esmerge.tracking.wandb_settings import Tracking
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
    settings = {name for name in os.environ if name.startswith("WANDB_")} - {SERVICE}
    for name in settings | {"NETRC"}:  # the client's process may end within a test: its address must not come back
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
    environment = {**os.environ, **proxies, "PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [sys.executable, "-c", PLAIN, str(run.path.parent), json.dumps(ROWS), str(picture)]
    silent = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL}
    process = subprocess.run(arguments, cwd=cwd, env=environment, timeout=60, check=True, **silent)
    server.close()
    report = json.loads(process.stdout)  # nothing else is printed
    assert process.stderr == "" and report["error"] is None
    assert max(report["seconds"][1:]) < 1.5
    assert calls == []
    assert list(cwd.iterdir()) == [] and list(no_account.rglob("*")) == []
    files = [path.name for path in (run.path.parent / "wandb").rglob("*")]
    assert sum(name.endswith(".wandb") for name in files) == 3
    assert any(name.startswith("metrics") and name.endswith(".table.json") for name in files)
    assert any(name.endswith(".png") for name in files)


def test_the_logged_run_says_what_it_is(run: RunFolder, no_account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: dict[str, object] = {}

    class Fake:
        id = "1"
        summary: dict[str, float] = {}
        settings = SimpleNamespace(sync_dir="offline-run-1")

        def __getattr__(self, name: str):
            return lambda *arguments, **keywords: calls.setdefault(name, (arguments, keywords))

    import wandb

    monkeypatch.setattr(wandb, "init", lambda **keywords: calls.update(keywords) or Fake())
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
    assert (calls["group"], calls["name"], calls["job_type"], calls["entity"]) == ("sweep", "r", "merge", "us")
    assert calls["tags"] == ["es", "joint"] and calls["config"] == {"a": 1}
    assert Fake.summary == {"x/accuracy": 0.5}
    assert calls["finish"] == ((), {"exit_code": 0}) and "log_artifact" in calls


def test_a_failure_while_logging_is_recorded_and_not_raised(run: RunFolder, no_account: Path) -> None:
    with pytest.warns(UserWarning, match="was not tracked by W&B .*nothing.png"):
        log_run(Tracking(), run, {}, "sweep", "r", "merge", ROWS, {"map": Path("nothing.png")}, None)
    status = run.status()
    assert status.state == "done" and "nothing.png" in str(status.tracking_error)


def test_disabled_does_nothing(run: RunFolder) -> None:
    assert log_run(Tracking(mode="disabled"), run, {}, "s", "r", "merge", ROWS, {}, None) == 0.0
    assert not (run.path.parent / "wandb").exists()


SERVER = """
import json, os, pwd, sys, warnings
from pathlib import Path
import wandb
from esmerge.core.errors import TrackingError
from esmerge.tracking.store import RunFolder
from esmerge.tracking.wandb_log import log_run
from esmerge.tracking.wandb_settings import Tracking, check_login
warnings.simplefilter("error")

def unknown(user):
    raise KeyError(user)

def check(mode):
    try:
        check_login(Tracking(mode=mode))
        return "accepted"
    except (TrackingError, UserWarning) as refusal:
        return f"{type(refusal).__name__}: {refusal}"

def log(mode):
    for name in ("r", "s"):
        run = RunFolder(Path.cwd() / name)
        log_run(Tracking(mode=mode), run, {"seed": 0}, "sweep", name, "merge", [], {})
    return "accepted"

for line in sys.stdin:
    question, mode, folder, environment = json.loads(line)
    answers, answer = os.pipe()
    if not os.fork():
        os.environ.clear()
        os.environ.update(environment)
        if "HOME" not in environment:
            pwd.getpwuid = unknown
        os.chdir(folder)
        os.write(answer, json.dumps({"check": check, "log": log}[question](mode)).encode())
        os._exit(0)
    os.close(answer)
    with open(answers, "rb") as file:
        print((file.read() or b"null").decode(), flush=True)
    os.wait()
"""
KEY = "0123456789" * 4  # of the right form, and no real one
HOST = "api.forge.coreweave.com"


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[str]]:
    """A process that has imported the client and asks it in a fork: the client reads its environment only once."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", SERVER], env=environment, **pipes) as process:
        yield process


Ask = Callable[..., str]


@pytest.fixture()
def ask_client(server: subprocess.Popen[str], no_account: Path) -> Ask:
    """``check`` what W&B would refuse, or ``log`` two runs, in a folder and with further variables."""

    def ask(question: str, folder: Path, mode: str = "online", home: bool = True, **variables: str) -> str:
        environment = {**os.environ, **variables}
        if not home:
            del environment["HOME"]
        assert server.stdin is not None and server.stdout is not None
        print(json.dumps([question, mode, str(folder), environment]), file=server.stdin, flush=True)
        return str(json.loads(server.stdout.readline()))

    return ask


@pytest.fixture()
def check(ask_client: Ask, no_account: Path) -> Ask:
    return partial(ask_client, "check", no_account)


def test_online_needs_a_key_for_the_server_that_the_client_talks_to(check: Ask, no_account: Path) -> None:
    assert f"no W&B API key for https://{HOST}: run `wandb login`" in check()
    (no_account / ".netrc").write_text(f"machine {HOST} login user password {KEY}\n")
    assert check() == "accepted"
    assert "wandb.example.org" in check(WANDB_BASE_URL="https://wandb.example.org")
    assert check(WANDB_BASE_URL="https://wandb.example.org", WANDB_API_KEY=KEY) == "accepted"
    assert sorted(path.name for path in no_account.rglob("*")) == [".netrc"]


def test_the_host_of_a_login_is_in_the_clients_settings_file(check: Ask, no_account: Path) -> None:
    path = no_account / ".config" / "wandb" / "settings"
    path.parent.mkdir(parents=True)
    (no_account / ".netrc").write_text(f"machine wandb.example.org login user password {KEY}\n")
    path.write_text("[default]\nbase_url = https://wandb.example.org\n")
    assert check() == "accepted"
    path.write_text("[default]\nbase_url = wandb.example.org\n")
    assert check().startswith(f"TrackingError: base_url in {path} is 'wandb.example.org': expected")


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_an_address_without_a_scheme_is_refused(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "wandb.example.org")
    with pytest.raises(TrackingError, match="WANDB_BASE_URL is 'wandb.example.org': .*https://wandb.example.org"):
        check_login(Tracking(mode=mode))
    check_login(Tracking(mode="disabled"))


def test_a_user_without_home_and_entry_may_go_online_with_a_key(check: Ask) -> None:
    assert check(home=False, WANDB_API_KEY=KEY) == "accepted"
    assert "no W&B API key" in check(home=False)


def test_variables_that_the_client_cannot_read_are_refused(check: Ask) -> None:
    assert check(WANDB_INIT_TIMEOUT="long").startswith("TrackingError: W&B cannot read its WANDB_ variables")
    assert check(WANDB_API_KEY="short").startswith("TrackingError: tracking=online, but W&B refuses")


def test_a_settings_file_may_only_be_stricter(check: Ask, no_account: Path) -> None:
    path = no_account / ".config" / "wandb" / "settings"
    path.parent.mkdir(parents=True)
    path.write_text("[default]\nmode = offline\n")
    assert "W&B is set to offline here" in check()
    path.write_text("[default]\nmode = online\n")
    assert check("offline") == "accepted"


VARIABLES = {"MODE": "dryrun", "PROJECT": "ours", "ENTITY": "us", "DIR": "~/runs"}


def test_variables_win_over_defaults_but_not_over_what_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    def tracking(*overrides: str) -> Tracking:
        return typed(Tracking, plain(composed(*overrides)["tracking"]), "tracking")

    for name in VARIABLES:
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    assert tracking() == Tracking()
    for name, value in VARIABLES.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    assert tracking() == Tracking("offline", "ours", "us", "~/runs")
    monkeypatch.setenv("WANDB_MODE", "online")
    assert tracking().mode == "online" and tracking("tracking=offline").mode == "offline"
    settings = tracking("tracking=offline", "tracking.project=mine", "tracking.entity=me", "tracking.folder=here")
    assert settings == Tracking("offline", "mine", "me", "here")
    monkeypatch.setenv("WANDB_PROJECT", "")
    assert tracking().project == Tracking().project
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    with pytest.raises(ConfigError, match="tracking.mode='sometimes' must be one of .* WANDB_MODE"):
        tracking()


def logged(folder: Path) -> list[Path]:
    """W&B's files of the two runs, whose names end in the runs' ids; nothing went wrong."""
    assert [RunFolder(folder / name).status().tracking_error for name in ("r", "s")] == [None, None]
    return sorted(folder.rglob("*.wandb"))


def test_variables_of_one_run_do_not_reach_the_runs_of_a_sweep(ask_client: Ask, tmp_path: Path) -> None:
    variables = {"RUN_ID": "melted", "SWEEP_ID": "sweep-of-yours", "NOTES": "a note", "RESUME": "must", "NAME": "yours",
                 "RUN_GROUP": "your-group", "MODE": "disabled"}  # fmt: skip
    ask_client("log", tmp_path, "offline", **{f"WANDB_{name}": value for name, value in variables.items()})
    files = logged(tmp_path)
    assert len({path.name for path in files}) == 2
    content = b"".join(path.read_bytes() for path in files)
    assert b"es-merging-bench" in content
    assert not [value for value in variables.values() if value.encode() in content]


def test_without_home_and_entry_runs_are_tracked_offline(ask_client: Ask, tmp_path: Path) -> None:
    assert ask_client("log", tmp_path, "offline", home=False) == "accepted"
    assert len(logged(tmp_path)) == 2 and not (tmp_path / "~").exists()


def test_a_client_that_is_disabled_writes_nothing(ask_client: Ask, no_account: Path, tmp_path: Path) -> None:
    (no_account / ".config" / "wandb").mkdir(parents=True)
    (no_account / ".config" / "wandb" / "settings").write_text("[default]\nmode = disabled\n")
    assert ask_client("log", tmp_path, "offline") == "accepted"
    assert logged(tmp_path) == []


@pytest.mark.parametrize("project", ["a/b", "", "x" * 129])
def test_projects_that_the_server_refuses_are_refused_first(project: str) -> None:
    with pytest.raises(ConfigError, match="tracking.project='.*W&B takes 1 to 128 characters"):
        Tracking(project=project)


@pytest.mark.parametrize("mode", ["offline", "online", "disabled", "default"])
def test_every_config_fits_the_settings(mode: str) -> None:
    path = Path(__file__).resolve().parents[2] / "conf" / "tracking" / f"{mode}.yaml"
    assert Tracking(**OmegaConf.load(path)).mode == (mode if mode != "default" else "offline")
    assert f"# python -m src.sweep tracking={mode}" in path.read_text()


def test_unknown_modes_are_refused() -> None:
    with pytest.raises(ConfigError, match="'onlin' must be one of disabled, offline, online"):
        Tracking(mode="onlin")


def test_the_environment_is_restored(run: RunFolder, no_account: Path) -> None:
    before = dict(os.environ)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log_run(Tracking(), run, {}, "s", "r", "merge", ROWS, {}, None)
    assert {k: v for k, v in os.environ.items() if k != SERVICE} == {k: v for k, v in before.items() if k != SERVICE}


def test_the_process_of_another_program_is_not_asked(run: RunFolder, no_account: Path) -> None:
    restart_client()
    os.environ[SERVICE] = f"3-{os.getppid()}-unix-{no_account}/gone"  # as a worker or a job of SLURM inherits it
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log_run(Tracking(), run, {}, "s", "r", "merge", ROWS, {}, None)
    assert read_logged(run.path)


def test_a_process_that_is_gone_costs_one_run_alone(run: RunFolder, no_account: Path) -> None:
    restart_client()
    os.environ[SERVICE] = f"3-{os.getpid()}-unix-{no_account}/gone"
    with pytest.warns(UserWarning, match="run r was not tracked by W&B .*Failed to connect"):
        log_run(Tracking(), run, {}, "s", "r", "merge", ROWS, {}, None)
    log_run(Tracking(), run, {}, "s", "r", "merge", ROWS, {}, None)
    assert read_logged(run.path)
