"""What spreads a multirun: processes of this machine, submitit, a SLURM that a script plays, and signals to stop."""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from filelock import FileLock
from tests.conftest import composed
from tests.front_door import run_sweep

import esmerge.cli.sweep
import esmerge.experiment.pipeline
from esmerge.core.compose import choices
from esmerge.core.stopping import RESUMABLE
from esmerge.experiment.config import read_sweep
from esmerge.experiment.plan import plan_runs
from esmerge.tracking.store import RunFolder

METHODS = ("majority", "group_mean")
COMMON = [
    *("specialists=textbook_tiny", "suite.benchmarks=[molecule_class]", "references=[]", "benchmark.limit=12"),
    *("compute.resamples=20", "compute.threads=1", "tracking=disabled"),
]  # jobs without a language model
SLURM = Path(__file__).with_name("fake_slurm.py")


def sweep(monkeypatch: pytest.MonkeyPatch, folder: Path, *overrides: str, multirun: bool = True) -> Any:
    """Run the front door here, on two methods or, as a single job, on one; returns what it exits with."""
    words = [f"hydra.{'sweep' if multirun else 'run'}.dir={folder}", f"cache={folder.parent / 'cache'}", *overrides]
    method = f"method={','.join(METHODS) if multirun else METHODS[1]}"
    return run_sweep(monkeypatch, *(["-m"] if multirun else []), *COMMON, method, *words)


def until(condition: Callable[[], bool], seconds: float = 200) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not get there in time"
        time.sleep(0.05)


@contextmanager
def meanwhile(work: Callable[[], None]) -> Iterator[None]:
    """Do something in a thread while the block runs; what goes wrong there fails the test."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        yield
        future.result()


def is_done(folder: Path, method: str) -> bool:
    return any(RunFolder(path.parent).status().state == "done" for path in folder.glob(f"{method}-*/status.json"))


def handles(pid_file: Path, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal by now."""
    if not pid_file.exists():
        return False
    (mask,) = re.findall(r"SigCgt:\s*(\w+)", Path("/proc", pid_file.read_text(), "status").read_text())
    return bool(int(mask, 16) >> (number - 1) & 1)


def methods(folder: Path) -> set[str]:
    return set(pd.read_csv(folder / "results.csv")["method"])


def run_of(folder: Path, method: str) -> Path:
    """The folder of a method's run, which is made."""
    (spec,) = plan_runs(read_sweep(composed(*COMMON, f"method={method}", f"cache={folder.parent / 'cache'}")))
    run = folder / spec.name
    run.mkdir(parents=True)
    return run


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """SLURM's commands on the path; the folder of their state."""
    commands, state = tmp_path / "bin", tmp_path / "slurm"
    commands.mkdir(), state.mkdir()
    for name in ("sbatch", "srun", "scontrol", "sacct"):
        (commands / name).write_text(f"#!{sys.executable} -S\n{SLURM.read_text()}")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(state))
    return state


def test_every_engine_has_a_config() -> None:
    assert {"basic", "joblib", "submitit_local", "submitit_slurm", "ray"} <= set(choices("hydra/launcher"))


@pytest.mark.parametrize("engine", ["joblib", "submitit_local", "submitit_slurm"])
def test_a_config_has_the_settings_that_the_launcher_takes(engine: str) -> None:
    """The package's own defaults, as it registers them: a setting that it gains or drops is noticed here."""
    package = "hydra_joblib_launcher" if engine == "joblib" else "hydra_submitit_launcher"
    importlib.import_module(f"hydra_plugins.{package}.config")
    from hydra.core.config_store import ConfigStore

    registered = ConfigStore.instance().load(f"hydra/launcher/{engine}.yaml").node
    config = composed(f"hydra/launcher={engine}", config="sweep", return_hydra_config=True).hydra.launcher
    assert set(config) == set(registered) and config._target_ == registered._target_


def test_a_launcher_without_its_package_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    absent = "hydra.launcher._target_=hydra_plugins.absent.AbsentLauncher"
    code = sweep(monkeypatch, tmp_path / "sweep", "hydra/launcher=submitit_slurm", absent)
    assert code == (
        "error: hydra/launcher=submitit_slurm needs AbsentLauncher, which is not installed: pip install "
        "'es-merging-bench[submitit]'"
    )
    assert not (tmp_path / "sweep").exists()


def test_a_launcher_for_a_single_job_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = sweep(monkeypatch, tmp_path / "sweep", "hydra/launcher=joblib", multirun=False)
    assert "hydra/launcher=joblib" in code and code.endswith("add -m")


def test_submitit_runs_jobs_on_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    assert sweep(monkeypatch, folder, "hydra/launcher=submitit_local") == 0
    assert methods(folder) == set(METHODS)
    assert len(list((folder / ".submitit").glob("*/*_0_log.out"))) == 2  # one process for each job


@pytest.mark.slow
def test_ray_runs_jobs_on_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip(
        "hydra_plugins.hydra_ray_launcher", reason="the extra ray is large, and not in the test install"
    )
    assert sweep(monkeypatch, tmp_path / "sweep", "hydra/launcher=ray") == 0
    assert methods(tmp_path / "sweep") == set(METHODS)


def test_slurm_gets_one_array_and_a_job_that_is_told_to_go_is_put_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, slurm: Path
) -> None:
    folder = tmp_path / "sweep"
    run = run_of(folder, METHODS[1])

    def take_its_machine_back() -> None:
        with FileLock(run / ".lock"):  # where the job waits
            until(lambda: is_done(folder, METHODS[0]) and handles(slurm / "pids" / "1", signal.SIGUSR2))
            os.kill(int((slurm / "pids" / "1").read_text()), signal.SIGUSR2)
            until(lambda: (slurm / "attempts" / "1").read_text() == "xx")

    with meanwhile(take_its_machine_back):
        assert sweep(monkeypatch, folder, "hydra/launcher=submitit_slurm") == 0
    assert methods(folder) == set(METHODS)
    script = (slurm / "script").read_text().splitlines()
    for line in ("--array=0-1%2", "--gpus-per-node=1", "--signal=USR2@180", "--time=1440", "--open-mode=append"):
        assert f"#SBATCH {line}" in script


def test_a_sweep_that_is_told_to_go_reports_and_goes_on_later(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sweep"

    def send() -> None:
        until(lambda: is_done(folder, METHODS[0]))
        os.kill(os.getpid(), signal.SIGTERM)

    with FileLock(run_of(folder, METHODS[1]) / ".lock"), meanwhile(send):
        assert sweep(monkeypatch, folder) == RESUMABLE
    assert "SIGTERM" in capsys.readouterr().err and methods(folder) == {METHODS[0]}
    assert sweep(monkeypatch, folder) == 0 and methods(folder) == set(METHODS)


def test_secrets_are_in_nothing_that_a_sweep_leaves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that works and one that fails with a message that quotes a key, tracked offline."""
    secret = "not-for-anybody-else"
    for name in ("WANDB_API_KEY", "HF_TOKEN", "MY_PASSWORD"):
        monkeypatch.setenv(name, secret)
    folder = tmp_path / "sweep"

    def refuse(*arguments: object) -> None:
        raise OSError(f"401 for key {secret}")

    monkeypatch.setattr(esmerge.experiment.pipeline, "provenance", refuse)
    with pytest.warns(UserWarning, match=r"401 for key \*\*\*"):
        assert sweep(monkeypatch, folder) == 1
    monkeypatch.undo()
    for name in ("WANDB_API_KEY", "HF_TOKEN", "MY_PASSWORD"):
        monkeypatch.setenv(name, secret)
    assert sweep(monkeypatch, folder, "tracking=offline") == 0
    printed = capsys.readouterr()
    assert secret not in printed.out + printed.err
    leaks = [path for path in tmp_path.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert not leaks
