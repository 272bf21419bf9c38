"""Folders that a sweep writes to are checked before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from tests.conftest import composed

from esmerge.core.errors import StoreError
from esmerge.experiment.config import Sweep, read_sweep
from esmerge.experiment.pipeline import run_job
from esmerge.tracking.callback import RememberFolder, started_folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where no folder can be."""
    path = tmp_path / "file"
    path.write_text("x")
    return path


def sweep_of(*overrides: str) -> Sweep:
    return read_sweep(composed("specialists=textbook_tiny", *overrides))


def test_the_setting_whose_folder_cannot_be_written_is_named(file: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"cache={file}/c cannot be written"):
        run_job(sweep_of(f"cache={file}/c"), tmp_path / "sweep")
    with pytest.raises(StoreError, match=f"tracking.folder={file}/w cannot be written"):
        run_job(sweep_of(f"cache={tmp_path}/c", f"tracking.folder={file}/w"), tmp_path / "sweep")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_hydras_own_folders_are_checked_before_it_makes_them(file: Path) -> None:
    before = started_folder()
    config = OmegaConf.create({"hydra": {"run": {"dir": f"{file}/r"}, "sweep": {"dir": f"{file}/s"}}})
    with pytest.raises(SystemExit, match=f"error: hydra.run.dir={file}/r cannot be written"):
        RememberFolder().on_run_start(config)
    with pytest.raises(SystemExit, match=f"error: hydra.sweep.dir={file}/s cannot be written"):
        RememberFolder().on_multirun_start(config)
    assert started_folder() == before


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    sweep = sweep_of("cache='~/c'", "tracking.folder='~/w'")
    assert sweep.cache == "/home/me/c" and sweep.tracking.parent(Path("s")) == Path("/home/me/w")
