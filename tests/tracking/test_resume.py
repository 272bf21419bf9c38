"""Where a sweep's folder lies, and the command that goes on in it."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from esmerge.core.errors import ConfigError, StoreError
from esmerge.tracking import callback
from esmerge.tracking.callback import RememberFolder, started_folder
from esmerge.tracking.resume import announce, name_sweep_folders, resuming_command, sweep_folder_name

NOW = "2026-01-02_03-04-05"
FOLDER = "outputs/${esmerge.sweep_folder:${sweep},${resume}," + NOW + "}"


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(callback, "_FOLDERS", [])
    monkeypatch.setattr("sys.argv", ["sweep", "-m", "granularity=layer,joint"])


def begin(name: str, age: float, run: bool = False) -> None:
    """A sweep folder that was started so many seconds ago."""
    folder = Path("outputs") / name
    announce(folder)
    stamp = (folder / "command.txt").stat().st_mtime - age
    os.utime(folder / "command.txt", (stamp, stamp))
    if run:
        (folder / "base").mkdir()
        (folder / "base" / "status.json").write_text("{}")
        os.utime(folder / "base" / "status.json", (stamp, stamp))


def test_a_sweep_without_a_name_is_called_by_the_time_and_a_name_stays() -> None:
    assert sweep_folder_name(None, None, NOW) == NOW
    assert sweep_folder_name("mine", None, NOW) == "mine" and sweep_folder_name(42, None, NOW) == "42"


def test_the_newest_sweep_is_the_one_that_was_started_last_whether_or_not_it_has_runs() -> None:
    with pytest.raises(StoreError, match="no sweep was found under 'outputs'"):
        sweep_folder_name(None, "latest", NOW)
    begin("first", 300, run=True)
    begin("killed_at_once", 100)
    begin("second", 200, run=True)
    assert sweep_folder_name(None, "latest", NOW) == "killed_at_once"


@pytest.mark.parametrize("name", ["a/b", "/tmp/x", "..", ".", ".hidden", "", "cache"])
def test_names_that_are_no_folder_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"sweep=.*expected a name for a folder.*hydra\.sweep\.dir=PATH"):
        sweep_folder_name(name, None, NOW)


def test_resume_knows_latest_alone() -> None:
    with pytest.raises(ConfigError, match="resume='first': expected latest; .* use sweep=NAME"):
        sweep_folder_name(None, "first", NOW)
    with pytest.raises(ConfigError, match="both name a folder"):
        sweep_folder_name("mine", "latest", NOW)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["-m", "seed=0,1"], ["-m", "seed=0,1", "sweep=mine"]),
        (["resume=latest", "seed=0"], ["seed=0", "sweep=mine"]),
        (["sweep=mine", "seed=0"], ["seed=0", "sweep=mine"]),
        (["-m", "hydra.sweep.dir=/data/mine"], ["-m", "hydra.sweep.dir=/data/mine"]),
        (["method.scale=interval(0.3, 3)"], ["method.scale=interval(0.3, 3)", "sweep=mine"]),
    ],
)
def test_the_command_that_goes_on_is_the_same_with_the_folder(argv: list[str], expected: list[str]) -> None:
    line = resuming_command(Path("outputs/mine"), argv)
    assert shlex.split(line) == ["python", "-m", "src.sweep", *expected]
    OverridesParser.create().parse_overrides([word for word in expected if word != "-m"])


def test_the_folder_keeps_its_command_and_another_one_is_told() -> None:
    folder = Path("outputs/mine")
    assert "until now" not in announce(folder) and "until now" not in announce(folder)
    assert (folder / "command.txt").read_text() == "python -m src.sweep -m granularity=layer,joint sweep=mine\n"
    message = announce_with(folder, "seed=1")
    assert "until now the sweep there was:\n  python -m src.sweep -m granularity=layer,joint sweep=mine" in message


def announce_with(folder: Path, word: str) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["sweep", word])
        return announce(folder)


def started(**values: str | None) -> None:
    """What Hydra does when a multirun starts."""
    name_sweep_folders()
    config = OmegaConf.create({"sweep": None, "resume": None, "hydra": {"sweep": {"dir": FOLDER}}})
    for key, value in values.items():
        OmegaConf.update(config, key.replace("__", "."), value)
    RememberFolder().on_multirun_start(config)


def test_a_start_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    started()
    assert started_folder() == Path("outputs") / NOW
    assert f"python -m src.sweep -m granularity=layer,joint sweep={NOW}" in capsys.readouterr().err
    started(resume="latest")
    assert started_folder() == Path("outputs") / NOW


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sweep": "a/b"}, "error: sweep='a/b': expected a name"),
        ({"resume": "latest"}, "error: no sweep was found"),
        ({"sweep": "mine", "hydra__sweep__dir": "/data/x"}, "error: sweep= and resume= name a folder under outputs"),
        ({"hydra__sweep__dir": "file/x"}, "error: hydra.sweep.dir=file/x cannot be written .*is no folder"),
    ],
)
def test_a_folder_that_cannot_be_ends_the_start_with_one_line(values: dict[str, str], message: str) -> None:
    Path("file").touch()
    with pytest.raises(SystemExit, match=message) as stop:
        started(**values)
    assert "\n" not in str(stop.value.code) and started_folder() is None
