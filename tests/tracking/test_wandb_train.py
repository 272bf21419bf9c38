"""W&B runs of training: the curve, an interruption, a failure, and the exam with what was trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.tracking.offline import OfflineRun, read_offline
from torch import nn

from esmerge.core.observed import Training, observing
from esmerge.model.training import Schedule, train
from esmerge.tracking.lineage import SpecialistSource
from esmerge.tracking.wandb_record import read_logged
from esmerge.tracking.wandb_settings import Tracking
from esmerge.tracking.wandb_train import Curve, TrainingLog, flat_numbers

STAGE = "textbook-specialist-0123abcd"


@pytest.fixture(autouse=True)
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("MODE", "PROJECT", "ENTITY", "DIR"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)


def log_in(folder: Path, mode: str = "offline") -> TrainingLog:
    return TrainingLog(Tracking(mode=mode), folder, "train-textbook-s0", {"seed": 0})


def checkpoint(folder: Path) -> Path:
    return folder / "cache" / "textbook-specialist" / "0123abcd.partial"


def teach(folder: Path, stop: int | None = None, steps: int = 6) -> float:
    """Fit a number to 3, from where an earlier call stopped."""
    weight = nn.Parameter(torch.zeros(1))

    def loss_at(step: int) -> torch.Tensor:
        if step == stop:
            raise KeyboardInterrupt
        return (weight - 3).square().sum()

    return train("cell specialist", [weight], loss_at, Schedule(steps, 0.1, batch=8), checkpoint(folder))


def shown(folder: Path, record: str = STAGE) -> OfflineRun:
    logged_run = read_logged(folder / record)
    assert logged_run is not None
    return read_offline(Path(logged_run.folder))


def test_a_training_shows_its_losses_and_its_throughput(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    with observing(log.observe):
        final = teach(tmp_path)
    wandb_run = shown(tmp_path)
    assert (wandb_run.run.run_group, wandb_run.run.job_type) == ("train-textbook-s0", "train")
    assert wandb_run.run.display_name == "cell specialist" and list(wandb_run.run.tags) == ["textbook-specialist"]
    losses = [row["train/loss"] for row in wandb_run.history]
    assert losses[0] == pytest.approx(9.0) and losses[-1] == pytest.approx(final) and losses == sorted(losses)[::-1]
    assert [row["_step"] for row in wandb_run.history] == [0, 1, 2, 3, 4, 5]
    rates = [(row["train/steps_per_second"], row["train/samples_per_second"]) for row in wandb_run.history]
    assert all(samples == pytest.approx(8 * steps) and steps > 0 for steps, samples in rates)
    assert wandb_run.exit_code == 0 and log.trainings == 1


def test_a_training_that_goes_on_is_the_same_run_with_the_whole_curve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esmerge.model.training.CHECKPOINT_SECONDS", -1.0)  # kept after every step
    with observing(log_in(tmp_path).observe), pytest.raises(KeyboardInterrupt):
        teach(tmp_path, stop=4)
    interrupted_run = shown(tmp_path)
    assert interrupted_run.exit_code == 1 and len(interrupted_run.history) == 4
    with observing(log_in(tmp_path).observe):
        teach(tmp_path)
    wandb_run = shown(tmp_path)
    assert wandb_run.run.run_id == interrupted_run.run.run_id and wandb_run.exit_code == 0
    assert [row["_step"] for row in wandb_run.history] == [0, 1, 2, 3, 4, 5]
    assert [row["train/loss"] for row in wandb_run.history][:4] == [
        row["train/loss"] for row in interrupted_run.history
    ]


def test_another_training_of_the_same_stage_is_another_run(tmp_path: Path) -> None:
    ids = []
    for _ in range(2):
        with observing(log_in(tmp_path).observe):
            teach(tmp_path, steps=2)
        ids.append(shown(tmp_path).run.run_id)
    assert ids[0] != ids[1]


def test_a_long_training_has_a_limited_number_of_points() -> None:
    points: list[int] = []

    class Run:
        def define_metric(self, *arguments: object, **keywords: object) -> None:
            pass

        def log(self, point: object, step: int) -> None:
            points.append(step)

    curve = Curve(Training("t", 1001, losses=tuple([1.0] * 10)))
    curve.start(Run(), again=True)  # type: ignore[arg-type]
    for step in range(10, 1001):
        curve.add(step, 1.0)
    curve.flush()
    assert len(points) <= 200 and points[-1] == 1000


def test_what_wandb_does_decides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **keywords: object) -> None:
        raise OSError("out of reach")

    expected = teach(tmp_path / "alone")
    monkeypatch.setattr("esmerge.tracking.wandb_train.wandb_run", refuse)
    with (
        observing(log_in(tmp_path).observe),
        pytest.warns(UserWarning, match="cell specialist was not tracked .*reach"),
    ):
        assert teach(tmp_path) == expected


def test_disabled_writes_nothing(tmp_path: Path) -> None:
    with observing(log_in(tmp_path, "disabled").observe):
        teach(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == []


def test_the_exam_is_shown_with_what_was_trained(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    specialists = [SpecialistSource("cell", "cell", "textbook", "c0ffee0123456789", "bb")]
    exam = {"passed": True, "figures": {"cell specialist, cell perceived": 0.9}}
    for _ in range(2):
        log.log_exam("exam", {"specialist cell": {"loss": 0.5, "note": "x"}}, exam, specialists)
    (wandb_run,) = [read_offline(path) for path in (tmp_path / "wandb").glob("offline-run-*")]
    assert wandb_run.summary["exam/cell specialist, cell perceived"] == 0.9 and wandb_run.summary["exam/passed"] is True
    assert wandb_run.summary["recorded/specialist cell/loss"] == 0.5 and wandb_run.run.job_type == "train"
    (artifact,) = wandb_run.artifacts
    assert (artifact.type, artifact.user_created) == ("specialist", False)  # an output: training -> specialist
    assert artifact.name == "specialist-textbook-cell-c0ffee012345"


def test_numbers_are_taken_from_nested_records() -> None:
    assert dict(flat_numbers({"a": {"b": 1, "c": "text"}, "d": True, "e": 2.5})) == {"a/b": 1.0, "e": 2.5}
