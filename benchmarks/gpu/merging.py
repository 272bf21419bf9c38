"""Every registered merge in every space and granularity at Llama-3.1-8B's shapes: seconds and peak memory.

Merges that stay low-rank get all layers; those that compute dense updates get a few, one module at a time as they are
read, and their seconds are multiplied to the full depth.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

from benchmarks.gpu.inputs import Inputs
from benchmarks.gpu.models import LLAMA_8B, SMALL, Shape
from benchmarks.gpu.report import Report, describe
from benchmarks.gpu.setting import Setting, free
from benchmarks.speed.contenders import is_dense

from esmerge.adapters.lora import LoraState
from esmerge.core.cost import Cost, cost
from esmerge.merging.api import MERGES
from esmerge.testing.case import Case, cases_of

MIB = 2**20
TABLE = "Merges, seconds for all layers and peak memory beyond the inputs"


class TooSlow(Exception):
    """A merge took longer than its guard allows."""


@dataclass(frozen=True)
class Sizes:
    """What is merged.

    Attributes:
        shape: of the language model.
        dense_layers: that merges of dense updates get.
        samples: of the probe.
        guard: seconds after which a merge is given up.
    """

    shape: Shape
    dense_layers: int
    samples: int
    guard: float


FULL_SIZES = Sizes(LLAMA_8B, 2, 330, 8)
SMALL_SIZES = Sizes(SMALL, 1, 8, 8)
LOW_AIM, DENSE_AIM = 5.0, 60.0


def run(setting: Setting, report: Report) -> None:
    """Low-rank merges, then dense ones."""
    sizes = SMALL_SIZES if setting.small else FULL_SIZES
    cases = [case for name in MERGES.names() for case in cases_of(MERGES.get(name))]
    dense = {id(case): is_dense(case.entry.name, case.space, case.granularity) for case in cases}
    warm_up(setting, cases)
    low, high = ([case for case in cases if dense[id(case)] is kind] for kind in (False, True))
    for kind, group, layers, aim in (
        ("low-rank", low, sizes.shape.layers, LOW_AIM),
        ("dense", high, sizes.dense_layers, DENSE_AIM),
    ):
        inputs = Inputs(sizes.shape, layers, setting.device, sizes.samples)
        measure(setting, report, sizes, kind, sorted(group, key=lambda case: case.space), inputs, aim)
        del inputs
        free(setting.device)


def warm_up(setting: Setting, cases: list[Case]) -> None:
    """Every merge once on tiny inputs, so that no library is loaded inside a measurement; faults come up later."""
    inputs = Inputs(SMALL, 1, setting.device, 4)
    for case in cases:
        with suppress(Exception):  # which is told where it is measured
            merge(case, inputs)


def measure(
    setting: Setting, report: Report, sizes: Sizes, kind: str, cases: list[Case], inputs: Inputs, aim: float
) -> None:
    """Merges of one kind, and the slowest of them beside what is aimed at."""
    times, scaled = dict[str, float](), sizes.shape.layers / inputs.layers
    space = cases[0].space if cases else ""
    for case in cases:
        if case.space != space:
            inputs.drop(space)
            space = case.space
            free(setting.device)
        label = title(case)
        values = {"merge": case.entry.name, "space": case.space, "granularity": case.granularity, "kind": kind}
        try:
            spent, device = timed(setting, sizes, case, inputs)
        except TooSlow:
            report.row(TABLE, **values, seconds=f"> {sizes.guard * scaled:g}", layers=inputs.layers)
            times[label] = float("inf")
            continue
        except Exception as error:
            report.check(label, False, describe(error), "no error")
            continue
        times[label] = spent.seconds * scaled
        report.row(
            TABLE, **values, seconds=times[label], peak_MB=round((spent.memory or 0) * MIB / 1e6), layers=inputs.layers
        )
        report.check(f"{label} is computed on the device", device == setting.device, device, setting.device)
    if times:
        slowest = max(times, key=lambda name: times[name])
        report.goal(f"slowest {kind} merge: {slowest}", f"{times[slowest]:.2f} s", f"< {aim:g} s", times[slowest] < aim)


def timed(setting: Setting, sizes: Sizes, case: Case, inputs: Inputs) -> tuple[Cost, str]:
    """What a merge costs beyond its inputs, and the kind of device that its result lies on."""
    request = inputs.request(case)  # made outside of the measurement
    free(setting.device)
    with guarded(sizes.guard), cost(setting.device) as spent:
        device = merge(case, inputs, request)
    return spent, device


def merge(case: Case, inputs: Inputs, request: object = None) -> str:
    """Merge and read every module once: dense updates are computed, and dropped, one by one."""
    state = case.merge(inputs.request(case) if request is None else request).state  # type: ignore[arg-type]
    device = ""
    if isinstance(state, LoraState):
        for factors in state.materialize().modules.values():
            device = factors.a.device.type
    else:
        for update in state.modules.values():
            device = update.device.type
    return device


def title(case: Case) -> str:
    """A merge, its space and its granularity."""
    return " ".join(filter(None, (case.entry.name, case.space, case.granularity)))


@contextmanager
def guarded(seconds: float) -> Iterator[None]:
    """A block that raises ``TooSlow`` when it has taken some seconds, as soon as Python has the word again."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
