"""Adding a merge, a floor or an encoder is one file, one config and one test, in a folder of the user's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

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

ENCODER = '''
"""Molecules by how often each letter of their SMILES occurs."""

from dataclasses import dataclass

import torch
from torch import nn

from esmerge.specialists.soft_tokens.api import ENCODERS, FeatureEncoder, Trunk

LETTERS = "CNOSFclnos()=#123"


@dataclass(frozen=True)
class LetterSettings:
    """Nothing to set but the scale of the counts."""

    scale: float = 0.1


class Letters(Trunk):
    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(len(LETTERS), width)

    def forward(self, prepared):
        return self.linear(prepared).relu()


@ENCODERS.register("letters", LetterSettings)
def letters(settings):
    def prepare(values):
        return torch.tensor([[settings.scale * value.count(letter) for letter in LETTERS] for value in values])

    return FeatureEncoder(lambda value: value, prepare, Letters)
'''


def add(folder: Path, group: str, name: str, code: str, kind: str, config: str) -> None:
    """Write an installed distribution with one module, and the config of what the module registers."""
    (folder / f"{name}_plugin.py").write_text(code)
    metadata = folder / f"{name}_plugin-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-plugin\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{name} = {name}_plugin\n")
    (folder / "conf" / kind).mkdir(parents=True, exist_ok=True)
    (folder / "conf" / kind / f"{name}.yaml").write_text(config)


def sweep(folder: Path, cache: Path, *overrides: str) -> pd.DataFrame:
    """Rows of a sweep that sees the distributions and the configs of a folder."""
    command = [sys.executable, "-m", "src.sweep", "--config-dir", str(folder / "conf"), *SMALL, *overrides]
    command += [f"cache={cache}", f"hydra.run.dir={folder / 'out'}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT / "src")])}
    process = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return pd.read_csv(folder / "out" / "results.csv")


def test_a_merge_and_a_floor_of_ones_own_stand_in_the_results(
    tmp_path: Path, shared_cache: Path, tiny_specialists: Specialists
) -> None:
    add(tmp_path, "esmerge.merges", "half", MERGE, "method", "name: half\nscale: 1.0\nrank: exact\n")
    add(tmp_path, "esmerge.floors", "first_label", FLOOR, "method", "name: first_label\n")
    results = sweep(tmp_path, shared_cache, "method=half", "references=[first_label,average@delta]")
    accuracy = results[results["metric"] == "accuracy"].set_index("method")
    assert set(accuracy.index) == {"half", "first_label", "average"}
    assert accuracy.loc["half", "merge_space"] == "delta" and accuracy["n"].eq(10).all()
    answers = pd.read_csv(next((tmp_path / "out").glob("first_label-*/predictions/drug_cell.csv")))
    assert answers["prediction"].nunique() == 1
    table = (tmp_path / "out" / "table.md").read_text()
    assert "Half of the sum" in table and "First label" in table
    assert table.index("First label") < table.index("Half of the sum"), "a floor stands among the floors"


def test_an_encoder_of_ones_own_perceives_in_a_sweep(
    tmp_path: Path, shared_cache: Path, tiny_specialists: Specialists
) -> None:
    add(tmp_path, "esmerge.encoders", "letters", ENCODER, "encoder", "name: letters\nscale: 0.2\n")
    results = sweep(
        tmp_path, shared_cache, "encoder@specialists.encoders.molecule=letters", "method=average", "references=[]"
    )
    assert "average" in set(results["method"])
    assert list(tmp_path.glob("out/average-*/adapter/adapter_model.safetensors"))
    config = next(tmp_path.glob("out/average-*/config.yaml")).read_text()
    assert "letters" in config and "0.2" in config
