"""The package as others get it: a source distribution, a wheel made from it, and the wheel in another folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Callable
from email import message_from_string
from pathlib import Path

import pandas as pd
import pytest
import yaml
from tests.standalone.tiny import command, save_backbone, train_experts

import esmerge

ROOT = Path(__file__).resolve().parents[1]
BUILT_FROM = ("src", "conf", "benchmarks", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
LEFT_OVERS = ("__pycache__", "*.egg-info", "build")
FOREIGN = ("src/other/__init__.py", "src/esmerge/notes/plan.txt", "src/esmerge/draft.txt", "conf/method/ties.yaml.orig")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
ALONE = ("--no-deps", "--no-index")
HERE = ("--no-build-isolation",)
SWEEP = (
    *("specialists=textbook_tiny", "suite.benchmarks=[drug_protein]", "references=[majority]", "tracking=disabled"),
    *("benchmark.limit=12", "probe.samples=4", "granularity.projections=16", "compute.resamples=20"),
    *("compute.threads=1", "cache=cache", "hydra.sweep.dir=sweep"),
)
Run = Callable[..., subprocess.CompletedProcess[str]]


def run_in(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, without the paths that lead back to the checkout."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    spoken = [str(word) for word in words]
    return subprocess.run(spoken, cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False)


def checked(folder: Path, *words: object) -> str:
    process = run_in(folder, *words)
    assert process.returncode == 0, process.stdout[-2000:] + process.stderr[-2000:]
    return process.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, since building leaves files behind, with files that do not belong in a wheel."""
    folder = tmp_path_factory.mktemp("source")
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(*LEFT_OVERS))
        else:
            shutil.copy(ROOT / name, folder / name)
    for name in FOREIGN:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("")
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source distribution, so that it shows what that lacks."""
    folder = tmp_path_factory.mktemp("dist")
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    checked(source, sys.executable, "-c", build)
    (archive,) = folder.glob("*.tar.gz")
    checked(folder, *PIP, "wheel", *ALONE, *HERE, "-w", folder, archive)
    (built,) = folder.glob("*.whl")
    return built


def fresh_environment(folder: Path) -> Path:
    """An environment that sees the libraries of this one, by a path file, and no package of its own yet.

    Path files within the folder that a path file names are not read: an editable install in this environment is not
    seen from the fresh one.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    inside = checked(folder, python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    (Path(inside) / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment in which the wheel is installed."""
    interpreter = fresh_environment(tmp_path_factory.mktemp("environment"))
    checked(wheel.parent, *PIP, "--python", interpreter, "install", *ALONE, wheel)
    return interpreter


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stranger's folder, with a ``src`` and a ``conf`` of its own that must not be taken for ours."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("src/__init__.py", "src/merge.py", "src/sweep.py", "esmerge.py", "hydra.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("raise SystemExit('the project of the user was imported')\n")
    (folder / "conf").mkdir()
    (folder / "conf" / "merge.yaml").write_text("not: ours\n")
    (folder / "eyes.py").write_text("import torch\ndef encode(texts):\n    return [torch.ones(2, 16) for _ in texts]\n")
    return folder


@pytest.fixture(scope="module")
def script(python: Path, project: Path) -> Run:
    """The console script in the stranger's folder."""
    return lambda *words: run_in(project, python.with_name("esmerge"), *words)


def test_the_wheel_holds_the_package_its_configs_and_its_data_and_nothing_else(wheel: Path) -> None:
    package = ROOT / "src" / "esmerge"
    inside = [path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    expected = {f"esmerge/{path.relative_to(package)}": path for path in inside if path.suffix != ".md"}
    expected |= {f"esmerge/{path.relative_to(ROOT)}": path for path in (ROOT / "conf").rglob("*.yaml")}
    trained = ROOT / "benchmarks" / "specialists"
    weights = [path for path in trained.glob("*/seed*/**/*") if path.is_file()]
    assert {path.relative_to(trained).parts[:2] for path in weights} >= {("textbook", f"seed{n}") for n in range(3)}
    expected |= {f"esmerge/weights/{path.relative_to(trained)}": path for path in weights}
    expected["esmerge/published.csv"] = ROOT / "benchmarks" / "published.csv"
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert names == set(expected)
        assert {name for name, path in expected.items() if archive.read(name) != path.read_bytes()} == set()
    assert {"esmerge/conf/sweep.yaml", "esmerge/conf/method/es.yaml", "esmerge/tasks/data/upstream.yaml"} <= names


def test_its_metadata_are_those_of_the_project(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (info,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        metadata = message_from_string(archive.read(f"{info}/METADATA").decode())
        assert "esmerge = esmerge.cli.main:main" in archive.read(f"{info}/entry_points.txt").decode()
        assert archive.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
        assert archive.read(f"{info}/top_level.txt").decode().split() == ["esmerge"]
    assert metadata["Version"] == esmerge.__version__ and metadata["License-Expression"] == "Apache-2.0"
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == esmerge.__version__


def test_the_source_distribution_holds_no_left_overs(wheel: Path) -> None:
    (path,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"conf/sweep.yaml", "benchmarks/published.csv", "src/sweep.py", "LICENSE", "setup.py"} <= names
    assert not [name for name in names if name.endswith(".pyc") or "__pycache__" in name]


def test_an_editable_install_goes_on_reading_the_checkout(source: Path, tmp_path: Path) -> None:
    python = fresh_environment(tmp_path / "environment")
    checked(tmp_path, *PIP, "--python", python, "install", *ALONE, *HERE, "-e", source)
    code = "import esmerge.core.paths as paths; print(paths.PACKAGE, paths.CONF, paths.PUBLISHED)"
    places = ("src/esmerge", "conf", "benchmarks/published.csv")
    assert checked(tmp_path, python, "-c", code).split() == [str(source / place) for place in places]


def test_the_wheel_reads_its_own_files(python: Path, tmp_path: Path) -> None:
    code = "import esmerge.core.paths as paths; print(paths.PACKAGE, paths.CONF, paths.PUBLISHED)"
    package, conf, published = map(Path, checked(tmp_path, python, "-c", code).split())
    assert package.is_relative_to(python.parents[1]) and (conf, published) == (
        package / "conf",
        package / "published.csv",
    )


def test_the_script_says_what_there_is(script: Run) -> None:
    process = script("--help")
    assert process.returncode == 0 and all(
        f"esmerge {verb}" in process.stdout for verb in ("sweep", "merge", "train", "report", "tasks")
    )
    assert script("--version").stdout == f"esmerge {esmerge.__version__}\n"


def test_a_merge_is_planned_in_a_folder_with_a_src_of_its_own(script: Run, project: Path, tmp_path: Path) -> None:
    backbone = save_backbone(tmp_path / "backbone")
    experts = train_experts(backbone, tmp_path)
    before = sorted(project.rglob("*"))
    (tmp_path / "probe.jsonl").write_text('{"mol": "CCO", "prot": "MKV"}\n' * 4)
    words = command(backbone, experts, Path("merged"), tmp_path / "probe.jsonl", "dry_run=true")
    words[words.index(f"experts.mol={experts['mol']}")] = (
        f"experts.mol={{path: {experts['mol']}, encoder: eyes:encode}}"
    )
    process = script("merge", *words)
    assert process.returncode == 0, process.stdout[-2000:] + process.stderr[-2000:]
    assert "dry run: nothing is written" in process.stdout and "prot" in process.stdout
    after = [path for path in sorted(project.rglob("*")) if "__pycache__" not in path.parts]
    assert after == before, "nothing is written"


def test_a_sweep_runs_there(script: Run, project: Path) -> None:
    (project / "mine" / "method").mkdir(parents=True)
    (project / "mine" / "method" / "mine.yaml").write_text("name: task_arithmetic\nscale: 0.3\nrank: exact\n")
    process = script("sweep", "--config-dir", "mine", "-m", "method=mine,es", *SWEEP)
    assert process.returncode == 0, process.stdout[-2000:] + process.stderr[-2000:]
    rows = pd.read_csv(project / "sweep" / "results.csv")
    assert set(rows["method"]) == {"majority", "task_arithmetic", "es"} and set(rows["benchmark"]) == {"drug_protein"}
    assert (project / "sweep" / "table.md").is_file()
