"""Adding a merge or a floor is one file, one config and one test, in a folder of the user's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from esmerge.specialists.specialists import Specialists

ROOT = Path(__file__).parents[1]
SMALL = (
    *("specialists=textbook_tiny", "benchmark.limit=10", "suite.benchmarks=[drug_cell]", "compute.resamples=10"),
    *("compute.threads=1", "tracking=disabled"),
)
MERGE = '''
"""Half of the sum of the experts' updates."""

from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.ops.settings import DeltaSettings
from esmerge.merging.ops.space import combine_deltas, equal_weights


@MERGES.register("half", DeltaSettings, MergeInfo("Half of the sum", "a test", MethodKind.MERGE, ("delta",)))
def half(inputs: MergeInput, settings: DeltaSettings) -> Merged:
    weights = equal_weights(inputs.experts, "delta", 0.5)
    return Merged(combine_deltas(inputs.experts, weights, settings.scale, settings.rank))
'''
FLOOR = '''
"""Always the first answer."""

from dataclasses import dataclass

import numpy as np

from esmerge.baselines.api import FLOORS
from esmerge.baselines.ops.predictions import predictions
from esmerge.core.methods import MethodKind, ReferenceInfo


@dataclass(frozen=True)
class FirstSettings:
    """Nothing to set."""


@FLOORS.register("first_label", FirstSettings, ReferenceInfo("First label", MethodKind.FLOOR))
def first_label(settings, benchmark, seed):
    probabilities = np.zeros((len(benchmark.test), len(benchmark.labels)))
    probabilities[:, 0] = 1.0
    return predictions(benchmark, probabilities)
'''


def add(folder: Path, group: str, name: str, code: str, config: str) -> None:
    """Write an installed distribution with one module, and the config of what the module registers."""
    (folder / f"{name}_plugin.py").write_text(code)
    metadata = folder / f"{name}_plugin-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-plugin\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{name} = {name}_plugin\n")
    (folder / "conf" / "method").mkdir(parents=True, exist_ok=True)
    (folder / "conf" / "method" / f"{name}.yaml").write_text(config)


@pytest.fixture
def results(tmp_path: Path, shared_cache: Path, tiny_specialists: Specialists) -> pd.DataFrame:
    """Rows of a sweep with a merge and a floor of the user's own."""
    add(tmp_path, "esmerge.merges", "half", MERGE, "name: half\nscale: 1.0\nrank: exact\n")
    add(tmp_path, "esmerge.floors", "first_label", FLOOR, "name: first_label\n")
    command = [sys.executable, "-m", "src.sweep", "--config-dir", str(tmp_path / "conf"), *SMALL, "method=half"]
    command += ["references=[first_label,average@delta]", f"cache={shared_cache}", f"hydra.run.dir={tmp_path / 'out'}"]
    paths = os.pathsep.join([str(tmp_path), str(ROOT / "src")])
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return pd.read_csv(tmp_path / "out" / "results.csv")


def test_a_merge_and_a_floor_of_ones_own_stand_in_the_results(results: pd.DataFrame, tmp_path: Path) -> None:
    accuracy = results[results["metric"] == "accuracy"].set_index("method")
    assert set(accuracy.index) == {"half", "first_label", "average"}
    assert accuracy.loc["half", "merge_space"] == "delta" and accuracy["n"].eq(10).all()
    answers = pd.read_csv(next((tmp_path / "out").glob("first_label-*/predictions/drug_cell.csv")))
    assert answers["prediction"].nunique() == 1
    table = (tmp_path / "out" / "table.md").read_text()
    assert "Half of the sum" in table and "First label" in table
    assert table.index("First label") < table.index("Half of the sum"), "a floor stands among the floors"
