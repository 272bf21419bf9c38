"""A sweep's W&B runs as a whole: runs that fail or are killed, the overview, and the page's keys."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from tests.front_door import run_sweep
from tests.tracking.offline import OfflineRun, read_offline
from tests.tracking.test_wandb_runs import ACCURACY, finished_run

import esmerge.cli.sweep
import esmerge.experiment.pipeline
from esmerge.core.methods import MethodKind, MethodRecord
from esmerge.core.observed import Training
from esmerge.experiment.wandb_groups import log_missing, log_sweep
from esmerge.tracking.lineage import Lineage, SignalsSource, write_lineage
from esmerge.tracking.store import RunFolder
from esmerge.tracking.wandb_log import log_failed_run
from esmerge.tracking.wandb_record import read_logged
from esmerge.tracking.wandb_run import Identity
from esmerge.tracking.wandb_settings import Tracking
from esmerge.tracking.wandb_shared import OVERVIEW
from esmerge.tracking.wandb_train import TrainingLog

WORDS = [
    *("specialists=textbook_tiny", "suite.benchmarks=[molecule_class]", "references=[]", "benchmark.limit=12"),
    *("compute.resamples=20", "compute.threads=1", "tracking=offline"),
]  # jobs without a language model


@pytest.fixture(autouse=True)
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("MODE", "PROJECT", "ENTITY", "DIR"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)


def sweep(monkeypatch: pytest.MonkeyPatch, folder: Path, *overrides: str) -> object:
    """Run the front door here; returns what it exits with."""
    places = [f"hydra.sweep.dir={folder}", f"cache={folder.parent / 'cache'}"]
    return run_sweep(monkeypatch, "-m", *WORDS, *places, *overrides)


def shown(folder: Path, job_type: str) -> dict[str, OfflineRun]:
    """Name -> W&B run of one type, of all that lie in a sweep."""
    runs = [read_offline(path) for path in (folder / "wandb").glob("offline-run-*")]
    return {wandb_run.run.display_name: wandb_run for wandb_run in runs if wandb_run.run.job_type == job_type}


def test_runs_that_crash_are_failed_in_both(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def crash(*arguments: object) -> None:
        raise RuntimeError("on fire")

    monkeypatch.setattr(esmerge.experiment.pipeline, "provenance", crash)
    with pytest.warns(UserWarning, match="on fire"):
        assert sweep(monkeypatch, tmp_path / "main", "method=majority") == 1
    (wandb_run,) = shown(tmp_path / "main", "reference").values()
    run = RunFolder(tmp_path / "main" / wandb_run.run.display_name)
    assert (wandb_run.exit_code, wandb_run.summary["failure"]) == (1, "RuntimeError: on fire")
    assert (run.status().state, run.status().reason) == ("failed", "RuntimeError: on fire")


def killed_run(folder: Path) -> RunFolder:
    """A run whose process is gone, which could say nothing."""
    run = RunFolder(folder / "es-s0")
    with pytest.raises(KeyboardInterrupt), run.working({"seed": 0}, "abc"):
        run.write_method(MethodRecord(MethodKind.ES, "ES-Merging"))
        status = run.status()
        raise KeyboardInterrupt
    run._write(status)
    return run


def test_a_run_that_was_killed_is_failed_in_both_when_the_sweep_is_over(tmp_path: Path) -> None:
    run = killed_run(tmp_path / "main")
    for _ in range(2):
        log_sweep(tmp_path / "main", Tracking())
    (wandb_run,) = shown(tmp_path / "main", "merge").values()
    assert run.current().state == "failed" and wandb_run.exit_code == 1 and wandb_run.run.display_name == "es-s0"
    assert "stopped half-way" in wandb_run.summary["failure"]
    assert len(log_missing(tmp_path / "main", Tracking())) == 1  # and it is sent


def test_the_overview_is_logged_again_when_a_figure_changes(tmp_path: Path) -> None:
    sweep_folder = tmp_path / "main"
    run = RunFolder(sweep_folder / "es-s0")
    with run.working({"seed": 0}, "abc"):
        run.write_method(MethodRecord(MethodKind.ES, "ES-Merging"))
        run.write_metrics(
            [{"run": "es-s0", "method": "es", "benchmark": "x", "metric": "accuracy", "value": 0.5, "n": 4}]
        )
        run.write_benchmarks({"x": {"title": "X", "family": "retention"}})
    ids = []
    for width in (1, 1, 2):
        (sweep_folder / "figures").mkdir(exist_ok=True)
        Figure(figsize=(width, 1)).savefig(sweep_folder / "figures" / "methods.png")
        log_sweep(sweep_folder, Tracking())
        logged_run = read_logged(sweep_folder / OVERVIEW)
        assert logged_run is not None
        ids.append((logged_run.id, logged_run.folder))
    assert ids[0] == ids[1] and ids[2][0] == ids[0][0] and ids[2][1] != ids[0][1]
    wandb_run = read_offline(Path(ids[2][1]))
    assert any("figures/methods" in row for row in wandb_run.history) and wandb_run.summary["verdict"]


PAGE = Path(__file__).resolve().parents[2] / "benchmarks" / "wandb.md"
NAMES = ("BENCHMARK", "METRIC", "EXPERT", "MODALITY", "FIGURE")  # stand for any name


def panels() -> list[tuple[str, str]]:
    """Job type and key of every panel of the page."""
    rows = [line.split("|")[1:-1] for line in PAGE.read_text().splitlines() if line.count("|") == 6]
    entries = [(re.findall(r"`([^`]+)`", kinds), re.findall(r"`([^`]+)`", x + y)) for _, _, kinds, x, y in rows]
    return [(kind, key) for kinds, keys in entries for kind in kinds for key in keys if key != "Step"]


def test_every_panel_of_the_page_has_a_key_that_is_logged(tmp_path: Path) -> None:
    folder, training = tmp_path / "main", tmp_path / "training"
    for seed in ACCURACY:
        run = finished_run(folder, seed)
        write_lineage(run.path, Lineage((), SignalsSource("mixed", "5195a15", str(tmp_path), {}, 330, 1.5)))
    log_failed_run(Tracking(), RunFolder(folder / "base-s0"), {}, Identity("main", "base-s0", "reference"), "on fire")
    (folder / "figures").mkdir()
    Figure(figsize=(1, 1)).savefig(folder / "figures" / "methods.png")
    log_missing(folder, Tracking())
    log = TrainingLog(Tracking(), training, "train", {})
    with log.observe(Training("t", 1, 8)) as tell:
        tell(0, 1.0)
    log.log_exam("exam", {}, {"passed": True, "figures": {"cell": 0.9}}, [])
    logged_keys: dict[str, set[str]] = {}
    for path in tmp_path.glob("*/wandb/offline-run-*"):
        wandb_run = read_offline(path)
        keys = {key for row in (*wandb_run.history, wandb_run.summary) for key in row}
        logged_keys.setdefault(
            "merge" if wandb_run.run.job_type == "reference" else wandb_run.run.job_type, set()
        ).update(keys)
    for kind, key in panels():
        pattern = re.sub("|".join(NAMES), ".+", re.escape(key))
        keys = logged_keys["merge" if kind == "reference" else kind]
        assert any(re.fullmatch(pattern, name) for name in keys), f"{kind}: {key}"
    assert len(panels()) > 20


def test_a_search_has_an_overview_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    search = (*("hydra/sweeper=optuna", "hydra.sweeper.n_jobs=1", "hydra.sweeper.n_trials=2"),
              *("hydra.sweeper.direction=maximize", "split=validation", "benchmark.limit=choice(8,12)"))  # fmt: skip
    killed = killed_run(tmp_path / "main")
    assert sweep(monkeypatch, tmp_path / "main", "method=majority", *search) == 0
    assert len(shown(tmp_path / "main", "overview")) == 1
    assert killed.name in shown(tmp_path / "main", "merge")
