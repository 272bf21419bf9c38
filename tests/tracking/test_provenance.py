from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from esmerge import __version__
from esmerge.core.paths import CONF, PACKAGE
from esmerge.tracking.provenance import git_state, library_versions, provenance


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@x"]
    return subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


def test_the_record_says_code_libraries_and_data() -> None:
    record = provenance("abc", {"bindingdb": "f00"}, seed=3)
    assert record["config_hash"] == "abc" and record["data"] == {"bindingdb": "f00"} and record["seed"] == 3
    assert record["libraries"]["torch"] == torch.__version__
    assert set(record) >= {"time", "command", "git", "python", "platform", "cpus"}
    assert record["version"] == __version__
    assert record["threads"] == torch.get_num_threads()
    assert json.loads(json.dumps(record)) == record


def test_a_library_that_is_absent_is_null(monkeypatch) -> None:
    monkeypatch.setattr("esmerge.tracking.provenance.LIBRARIES", ["numpy", "no-such-library"])
    library_versions.cache_clear()
    versions = library_versions()
    library_versions.cache_clear()
    assert versions["no-such-library"] is None and versions["numpy"]


NOWHERE = {"revision": None, "dirty": None}


def test_outside_a_repository_there_is_no_revision(tmp_path: Path) -> None:
    assert git_state(tmp_path) == git_state(None) == git_state(tmp_path / "absent") == NOWHERE


def test_the_repository_that_a_program_was_installed_into_is_not_its_own(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "start")
    packages = tmp_path / ".venv" / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    assert git_state(packages) == git_state(packages.parent) == NOWHERE
    assert git_state(tmp_path)["revision"]


INSTALLED = """
from esmerge.core.paths import IN_CHECKOUT
from esmerge import __version__
from esmerge.core.paths import CONF, PACKAGE
from esmerge.tracking.provenance import provenance
record = provenance("abc", {}, None)
print(IN_CHECKOUT, record["git"], record["version"])
"""


def test_an_installed_package_says_its_version_and_no_foreign_revision(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "src").mkdir()
    shutil.copytree(PACKAGE, tmp_path / "src" / "esmerge", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(CONF, tmp_path / "src" / "esmerge" / "conf", dirs_exist_ok=True)  # as a wheel has it
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "somebody else's")
    process = subprocess.run(
        [sys.executable, "-c", INSTALLED], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path / "src")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert process.stdout.strip() == f"False {NOWHERE} {__version__}"


def test_a_repository_gives_its_revision_and_whether_it_changed(tmp_path: Path) -> None:
    clean, changed = tmp_path / "clean", tmp_path / "changed"
    for folder in (clean, changed):
        folder.mkdir()
        git(folder, "init", "-q")
        git(folder, "commit", "-q", "--allow-empty", "-m", "start")
    (changed / "new.py").touch()
    assert git_state(clean) == {"revision": git(clean, "rev-parse", "HEAD").strip(), "dirty": False}
    assert git_state(changed)["dirty"] is True
