"""The README's command on SmolLM2 and real tables: train, probe, merge, score, report."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from safetensors import safe_open

from esmerge.specialists.families.language_model.smollm2 import PACKAGE

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT.parent / "shared" / "data"
SOURCE = os.environ.get("SMOLLM2_SOURCE")  # the wheel, or a folder; without it the installed package
GRANULARITIES = ("layer", "element", "joint")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not DATA.is_dir(), reason="the real tables (../shared/data) are not here")
@pytest.mark.skipif(
    SOURCE is None and importlib.util.find_spec(PACKAGE) is None,
    reason=f"SMOLLM2_SOURCE is not set and the package {PACKAGE} is not installed",
)
def test_the_whole_job_on_a_real_language_model(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    command = [
        *(sys.executable, "-m", "src.sweep", "-m", f"granularity={','.join(GRANULARITIES)}"),
        *("specialists=smollm2_aligned", f"specialists.root={DATA}", f"specialists.checkpoint={SOURCE or 'null'}"),
        *("benchmark=human", f"benchmark.root={DATA}", "benchmark.limit=100", "probe.samples=32"),
        *("tracking=disabled", f"cache={tmp_path / 'cache'}", f"hydra.sweep.dir={folder}"),
    ]
    subprocess.run(command, cwd=ROOT, check=True, timeout=3500)
    results = pd.read_csv(folder / "results.csv")
    assert set(results["benchmark"]) == {"human"} and results["value"].notna().all()
    assert set(results.loc[results["method"] == "es", "granularity"]) == set(GRANULARITIES)
    for run in results.loc[results["method"] == "es", "run"].unique():
        with safe_open(folder / run / "coefficients.safetensors", "pt") as stored:
            assert stored.get_slice("molecule.layer").get_shape() == [30]
    exams = [json.loads(path.read_text()) for path in tmp_path.glob("cache/language-model-specialist/*/metadata.json")]
    assert len(exams) == 3
    assert all(exam["specialist_accuracy"] > exam["backbone_accuracy"] for exam in exams)
