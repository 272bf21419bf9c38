from __future__ import annotations

import json
import subprocess
from pathlib import Path

import torch

from esmerge.tracking.provenance import git_state, library_versions, provenance


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@x"]
    return subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


def test_the_record_says_code_libraries_and_data() -> None:
    record = provenance("abc", {"bindingdb": "f00"}, seed=3)
    assert record["config_hash"] == "abc" and record["data"] == {"bindingdb": "f00"} and record["seed"] == 3
    assert record["libraries"]["torch"] == torch.__version__
    assert set(record) >= {"time", "command", "git", "python", "platform", "cpus"}
    assert record["threads"] == torch.get_num_threads()
    assert json.loads(json.dumps(record)) == record


def test_a_library_that_is_absent_is_null(monkeypatch) -> None:
    monkeypatch.setattr("esmerge.tracking.provenance.LIBRARIES", ["numpy", "no-such-library"])
    library_versions.cache_clear()
    found = library_versions()
    library_versions.cache_clear()
    assert found["no-such-library"] is None and found["numpy"]


def test_outside_a_repository_there_is_no_revision(tmp_path: Path) -> None:
    assert git_state(tmp_path) == {"revision": None, "dirty": None}


def test_a_repository_gives_its_revision_and_whether_it_changed(tmp_path: Path) -> None:
    clean, changed = tmp_path / "clean", tmp_path / "changed"
    for folder in (clean, changed):
        folder.mkdir()
        git(folder, "init", "-q")
        git(folder, "commit", "-q", "--allow-empty", "-m", "start")
    (changed / "new.py").touch()
    assert git_state(clean) == {"revision": git(clean, "rev-parse", "HEAD").strip(), "dirty": False}
    assert git_state(changed)["dirty"] is True
