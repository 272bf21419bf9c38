"""The choice of threads, on a machine that is told how fast it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch

from esmerge.core.errors import ConfigError
from esmerge.model import threads as module
from esmerge.model.threads import (
    FIRST_PERIOD,
    LONGEST_PERIOD,
    ThreadChooser,
    check_threads,
    fewest_of_the_fastest,
    seconds_with,
    thread_counts,
    use_threads,
)

QUIET = {1: 1.0, 2: 0.55, 4: 0.3, 8: 0.29}
BUSY = {1: 1.5, 2: 60.0, 4: 80.0, 8: 90.0}


@dataclass
class Machine:
    """A clock, and a speed for each number of threads."""

    speeds: dict[int, float]
    now: float = 100.0
    threads: int = 0
    tries: list[int] = field(default_factory=list)

    def try_threads(self, threads: int, seconds: float) -> float:
        self.tries.append(threads)
        self.now += max(seconds, 0.01 * self.speeds[threads])
        return self.speeds[threads]

    def set_threads(self, threads: int) -> None:
        self.threads = threads

    def chooser(self) -> ThreadChooser:
        return ThreadChooser(max(self.speeds), self.try_threads, self.set_threads, lambda: self.now)

    def work(self, chooser: ThreadChooser, seconds: float) -> float:
        """Steps for so long; returns the seconds that went into measuring."""
        end, before = self.now + seconds, len(self.tries)
        while self.now < end:
            self.now += 0.1 * self.speeds[self.threads]
            chooser.after_step()
        return 0.04 * (len(self.tries) - before)


def test_counts_are_powers_of_two_and_the_most() -> None:
    assert [thread_counts(most) for most in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]


def test_the_fewest_threads_are_taken_that_are_nearly_the_fastest() -> None:
    assert fewest_of_the_fastest(QUIET) == 4 and fewest_of_the_fastest(BUSY) == 1


@pytest.mark.parametrize(("speeds", "best"), [(QUIET, 4), (BUSY, 1)])
def test_it_measures_for_about_a_second_and_hopeless_numbers_once(speeds: dict[int, float], best: int) -> None:
    machine = Machine(dict(speeds))
    assert machine.chooser().threads == machine.threads == best
    assert 1.0 <= machine.now - 100.0 < 4.0
    hopeless = [threads for threads, seconds in speeds.items() if seconds > 2 * min(speeds.values())]
    assert [machine.tries.count(threads) for threads in hopeless] == [1] * len(hopeless)


def test_load_that_comes_is_noticed_within_a_few_steps_and_load_that_goes_within_a_period() -> None:
    machine = Machine(dict(QUIET))
    chooser = machine.chooser()
    machine.work(chooser, 10)
    machine.speeds = dict(BUSY)
    start = machine.now
    while machine.threads != 1:
        machine.work(chooser, 0.01)
    assert machine.now - start < 0.1 * BUSY[4] * 5 + 4
    machine.speeds = dict(QUIET)
    machine.work(chooser, LONGEST_PERIOD + FIRST_PERIOD)
    assert machine.threads == 4


def test_measuring_takes_a_small_share_of_a_steady_stage() -> None:
    machine = Machine(dict(QUIET))
    chooser = machine.chooser()
    assert machine.work(chooser, 600) < 0.03 * 600


def test_one_thread_needs_no_measurement() -> None:
    machine = Machine({1: 1.0})
    chooser = machine.chooser()
    assert machine.work(chooser, 600) == 0 and machine.now - 100 < 601 and machine.threads == 1


@pytest.fixture
def no_chooser(monkeypatch: pytest.MonkeyPatch) -> list[ThreadChooser]:
    monkeypatch.setattr(module, "_CHOOSERS", [])
    return module._CHOOSERS


@pytest.mark.parametrize("threads", [1, None])
def test_a_number_and_none_leave_nothing_to_choose(no_chooser: list[ThreadChooser], threads: int | None) -> None:
    use_threads("auto")
    assert len(no_chooser) == 1
    use_threads(threads)
    assert not no_chooser and torch.get_num_threads() == 1


def test_a_gpu_leaves_torchs_own_choice(no_chooser: list[ThreadChooser]) -> None:
    use_threads("auto", "cuda")
    assert not no_chooser


def test_a_piece_of_work_changes_no_random_number_and_no_gradient_mode() -> None:
    state = torch.get_rng_state()
    with torch.no_grad():
        assert seconds_with(1, 0.001) > 0
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("value", [0, -1, True, "all", 1.5, "2"])
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(ConfigError, match=r"compute\.threads=.*expected an integer from 1, auto, or null"):
        check_threads(value, "compute.threads")


@pytest.mark.parametrize("name", ["training", "batching"])
def test_long_stages_tell_of_their_steps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    stages: dict[str, Callable[[], object]] = {"training": _train, "batching": _batch}
    monkeypatch.setattr(f"esmerge.model.{name}.after_step", lambda: steps.append(name))
    stages[name]()
    assert len(steps) == 3


def _train() -> None:
    from esmerge.model.training import Schedule, train

    weight = torch.nn.Parameter(torch.ones(1))
    train("square", [weight], lambda step: weight.square().sum(), Schedule(3, 0.1))


def _batch() -> None:
    from tests import small

    from esmerge.core.prompts import Example
    from esmerge.model.batching import batches

    encoder = small.specialists({"mol": "molecule"}).prompt_encoder
    list(batches(encoder, [Example(str(i), ("drug ? ",), ("no", "yes"), 0) for i in range(6)], 2))
