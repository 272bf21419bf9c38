from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from esmerge.core.errors import NumberError
from esmerge.core.rng import generator
from esmerge.core.stopping import stop_on_signals
from esmerge.model import training
from esmerge.model.training import Schedule, train

STEPS = 9


class Stopped(Exception):
    """What a test raises in the middle of training."""


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))


def fit(net: nn.Sequential, schedule: Schedule, folder: Path | None, stop_at: int | None = None) -> float:
    def loss_at(step: int) -> Tensor:
        if step == stop_at:
            raise Stopped
        inputs = torch.from_numpy(generator(0, "inputs", step).normal(size=(5, 4))).float()
        return (net(inputs) - inputs[:, :2].sin()).square().mean()

    vectors = [p for p in net.parameters() if p.ndim == 1]
    matrices = [p for p in net.parameters() if p.ndim == 2]
    return train("fit", vectors, loss_at, schedule, folder, matrices)


SCHEDULES = {
    "adamw": Schedule(STEPS, 0.05, weight_decay=0.1, warmup=0.3),
    "muon": Schedule(STEPS, 0.05, weight_decay=0.1, muon_learning_rate=0.02),
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("stop_at", [1, 4, STEPS - 1])
def test_interrupted_training_ends_bit_for_bit_where_it_would_have(
    name: str, stop_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    reference, interrupted = network(), network()
    expected = fit(reference, SCHEDULES[name], None)
    with pytest.raises(Stopped):
        fit(interrupted, SCHEDULES[name], tmp_path / "scratch", stop_at)
    for parameter in interrupted.parameters():
        nn.init.constant_(parameter, float("nan"))  # a new process starts from nothing of the old one
    assert fit(interrupted, SCHEDULES[name], tmp_path / "scratch") == expected
    assert all(torch.equal(a, b) for a, b in zip(reference.parameters(), interrupted.parameters(), strict=True))


def test_interrupted_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    reference, interrupted, schedule = network(), network(), SCHEDULES["muon"]
    fit(reference, schedule, None)
    for stop_at in (2, 7):
        with pytest.raises(Stopped):
            fit(interrupted, schedule, tmp_path, stop_at)
    fit(interrupted, schedule, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(reference.parameters(), interrupted.parameters(), strict=True))


def test_checkpoints_are_no_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    fit(network(), SCHEDULES["muon"], tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]


@pytest.mark.parametrize("size", [0, 5, 400, -1])
def test_a_damaged_checkpoint_is_told_and_training_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    reference, restarted, schedule = network(), network(), SCHEDULES["muon"]
    fit(reference, schedule, None)
    with pytest.raises(Stopped):
        fit(network(), schedule, tmp_path, 7)
    (checkpoint,) = tmp_path.iterdir()
    content = bytearray(checkpoint.read_bytes())
    content[-1] ^= 1  # in a tensor: the file is still a safetensors file
    checkpoint.write_bytes(content if size < 0 else content[:size])
    with pytest.warns(UserWarning, match=r"state.safetensors is damaged \(.*\): this training starts again"):
        fit(restarted, schedule, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(reference.parameters(), restarted.parameters(), strict=True))


def test_training_lowers_the_loss_and_returns_the_mean_of_its_end() -> None:
    losses: list[float] = []
    weight = nn.Parameter(torch.tensor([4.0]))

    def loss_at(step: int) -> Tensor:
        loss = weight.square().sum()
        losses.append(float(loss.detach()))
        return loss

    end = train("square", [weight], loss_at, Schedule(40, 0.2))
    assert end == pytest.approx(sum(losses[-4:]) / 4)
    assert end < 0.1 * losses[0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_reported_with_its_step(bad: float) -> None:
    weight = nn.Parameter(torch.ones(1))

    def loss_at(step: int) -> Tensor:
        return weight.sum() * (bad if step == 3 else 1.0)

    with pytest.raises(NumberError, match=r"square: the loss is (nan|inf) at step 3.*than float32"):
        train("square", [weight], loss_at, Schedule(10, 0.1))


def test_weights_that_the_last_step_leaves_without_numbers_are_refused() -> None:
    weight = nn.Parameter(torch.zeros(1))

    def loss_at(step: int) -> Tensor:
        return weight.sum().sqrt() if step == 2 else 0 * weight.sum()  # finite, with an infinite slope

    with pytest.raises(NumberError, match=r"root: weights are not finite after step 2"):
        train("root", [weight], loss_at, Schedule(3, 0.1))


def test_the_rate_rises_stays_and_falls_to_near_zero() -> None:
    schedule = Schedule(100, 1.0, warmup=0.1, decay=0.4)
    factors = [schedule.factor(step) for step in range(100)]
    assert factors[0] == pytest.approx(0.1) and factors[9:60] == pytest.approx([1.0] * 51)
    assert factors[:10] == sorted(factors[:10]) and factors[60:] == sorted(factors[60:], reverse=True)
    assert 0 < factors[-1] < 0.05


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_keeps_the_step_at_hand_and_ends_training(number: signal.Signals, tmp_path: Path) -> None:
    steps: list[int] = []

    def loss_at(step: int, stop_at: int | None) -> Tensor:
        steps.append(step)
        if step == stop_at:
            os.kill(os.getpid(), number)
        return network_at_work(torch.ones(1, 4)).square().mean()

    network_at_work = network()
    with pytest.raises(KeyboardInterrupt), stop_on_signals():
        train("fit", list(network_at_work.parameters()), lambda step: loss_at(step, 3), SCHEDULES["adamw"], tmp_path)
    train("fit", list(network_at_work.parameters()), lambda step: loss_at(step, None), SCHEDULES["adamw"], tmp_path)
    assert steps == list(range(STEPS))  # no step was lost, none done twice


def test_parameters_beside_learn_at_their_own_rate(tmp_path: Path) -> None:
    main, other = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))

    def loss_at(step: int) -> Tensor:
        return (main.sum() + other.sum()) * 1e-3

    train("fit", [main], loss_at, Schedule(4, 0.01, warmup=0.0, decay=0.0), beside=[([other], 0.05)])
    assert torch.allclose(main, torch.full((3,), -0.04), atol=1e-4), "Adam moves by its rate each step"
    assert torch.allclose(other, torch.full((3,), -0.2), atol=1e-3)
