"""W&B runs of a sweep that several processes carry out."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from tests.tracking.test_wandb_sweep import shown, sweep


@pytest.fixture(autouse=True)
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("MODE", "PROJECT", "ENTITY", "DIR"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)


def test_six_runs_through_joblib_are_six_finished_wandb_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "main"
    joblib = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert sweep(monkeypatch, folder, "method=majority,group_mean", "seed=0,1,2", *joblib) == 0
    wandb_runs, results = shown(folder, "reference"), pd.read_csv(folder / "results.csv")
    assert set(wandb_runs) == set(results["run"]) and len(wandb_runs) == 6
    assert len({run.run.run_id for run in wandb_runs.values()}) == 6
    assert {(run.run.run_group, run.exit_code) for run in wandb_runs.values()} == {("main", 0)}
    for row in results.dropna(subset="value").to_dict("records"):
        assert wandb_runs[row["run"]].summary[f"{row['benchmark']}/{row['metric']}"] == pytest.approx(
            row["value"], abs=1e-12
        )
    assert len(shown(folder, "seeds")) == 2
    (overview,) = shown(folder, "overview").values()
    keys = {key for row in overview.history for key in row if key.startswith("figures/")}
    assert keys == {f"figures/{path.stem}" for path in (folder / "figures").glob("*.png")}
