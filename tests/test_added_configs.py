"""A benchmark, a method and a suite of one's own are a YAML each in a folder that ``--config-dir`` names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import OmegaConf
from tests.test_sweep import in_process, results

from esmerge.specialists.specialists import Specialists

Write = Callable[[str, str], Path]
Sweep = Callable[..., pd.DataFrame]
FILES = {
    "benchmark/who_binds.yaml": (
        "# Does this drug bind that protein? Fewer questions.\n"
        "defaults:\n  - base@_here_: world\n\n"
        "name: who_binds\ntitle: Who binds\nlimit: 9\ntopic: bind\nform: [molecule, protein]\n"
    ),
    "method/ties_half.yaml": "# TIES that keeps half.\ndefaults: [ties]\nkeep: 0.5\n",
    "suite/mine.yaml": "name: mine\nbenchmarks: [who_binds, molecule_class]\n",
}


@pytest.fixture
def sweep(
    tmp_path: Path, write: Write, shared_cache: Path, tiny_specialists: Specialists, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., pd.DataFrame]:
    """Run the front door on the tiny specialists with the folder of configs; returns the accuracies."""
    for name, text in FILES.items():
        write(f"mine/{name}", text)

    def run(*arguments: str, options: tuple[str, ...] = ("--config-dir", f"{tmp_path}/mine")) -> pd.DataFrame:
        code = in_process(
            monkeypatch, *options, *arguments, "specialists=textbook_tiny", "tracking=disabled", "compute.resamples=20",
            "compute.threads=1", f"cache={shared_cache}", f"hydra.run.dir={tmp_path}/sweep",
        )  # fmt: skip
        assert code == 0
        return results(tmp_path / "sweep").query("metric == 'accuracy'").set_index(["method", "benchmark"])

    return run


def test_a_benchmark_is_found_by_suites(sweep: Sweep) -> None:
    rows = sweep("suite=mine", "references=[majority]", "method=average", "probe.samples=4")
    assert set(rows.index) == {(m, b) for m in ("majority", "average") for b in ("who_binds", "molecule_class")}
    assert set(rows.loc[pd.IndexSlice[:, "who_binds"], "n"]) == {"9"}, "as its own file says"
    assert set(rows.loc[pd.IndexSlice[:, "molecule_class"], "n"]) == {"48"}


def test_what_the_command_line_says_of_all_benchmarks_goes_before_a_file(sweep: Sweep, tmp_path: Path) -> None:
    rows = sweep(
        *("suite=mine", "references=[]", "method=majority", "benchmark.limit=7"),
        options=(f"hydra.searchpath=[file://{tmp_path}/mine]",),
    )
    assert set(rows["n"]) == {"7"} and len(rows) == 2


def test_a_chosen_benchmark_takes_settings_of_its_own(sweep: Sweep) -> None:
    rows = sweep("benchmark=who_binds", "references=[]", "method=majority", "benchmark.form=[molecule,protein,cell]")
    assert list(rows.index) == [("majority", "who_binds")] and set(rows["n"]) == {"9"}


def test_a_method_under_a_file_of_its_own_is_a_reference(sweep: Sweep, tmp_path: Path) -> None:
    sweep("benchmark=drug_protein", "benchmark.limit=6", "references=[ties,ties_half@delta]", "method=majority")
    configs = [OmegaConf.load(path) for path in sorted((tmp_path / "sweep").glob("ties*/config.yaml"))]
    assert sorted(config.method.keep for config in configs) == [0.2, 0.5]
    assert all(config.method.scale == 1.0 and config.merge_space == "delta" for config in configs)
