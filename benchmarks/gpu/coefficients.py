"""Coefficients at Llama-3.1-8B's shapes: seconds and memory, beside the floor and the re-enacted reference procedure.

Measured in order of importance, so that a part that is stopped has told the most important.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from benchmarks.gpu.models import LLAMA_8B, SMALL, Shape, adapter_bytes, random_case, random_llama, weight_bytes
from benchmarks.gpu.report import Report
from benchmarks.gpu.setting import Setting, free, synchronize
from benchmarks.gpu.syncs import synchronisations
from benchmarks.speed.probing import BATCH, JOINT, Case, floor_batches

from esmerge.coefficients.estimation import GRANULARITIES, coefficients
from esmerge.coefficients.types import ESConfig
from esmerge.coefficients.uncertainty import measured_distances
from esmerge.core.cost import Cost, cost
from esmerge.merging.ops.space import tensor_shapes
from esmerge.model.backbone import Backbone
from esmerge.probe.stored import load_signals, record_signals

PASSES, STAGES = "Coefficients, seconds and peak memory", "Stages of the joint coefficients"
MIB = 2**20


@dataclass(frozen=True)
class Sizes:
    """What is probed.

    Attributes:
        shape: of the backbone.
        prompts, few: of the published probe, and of a small one.
        experts, more: of the published set, and of a large one.
        length: tokens of a prompt.
        floor_seconds: that the floor may take, and the prompts that fit are multiplied.
        reference: numbers of prompts that the reference procedure is timed on.
    """

    shape: Shape
    prompts: int
    few: int
    experts: int
    more: int
    length: int
    floor_seconds: float
    reference: tuple[int, int]


FULL_SIZES = Sizes(LLAMA_8B, 330, 30, 3, 6, 200, 20, (4, 12))
SMALL_SIZES = Sizes(SMALL, 12, 4, 3, 6, 24, 1, (2, 4))


def run(setting: Setting, report: Report) -> None:
    """All measurements."""
    sizes = SMALL_SIZES if setting.small else FULL_SIZES
    start = time.monotonic()
    body = random_llama(sizes.shape, setting.device, torch.bfloat16)
    case = random_case(body, sizes.experts, sizes.prompts, sizes.length)
    synchronize(setting.device)
    bare = weight_bytes(body) + adapter_bytes(case)
    report.row("Model", **vars(sizes.shape), weights_GB=weight_bytes(body) / 1e9, adapters_GB=adapter_bytes(case) / 1e9,
               made_in_s=time.monotonic() - start)  # fmt: skip
    with report.attempt("a first pass"):
        measured(replace(case, prompts=case.prompts[:4]), setting)  # kernels are loaded, and not timed
    seconds = None
    with report.attempt("coefficients of all prompts"):
        seconds = _published(setting, report, sizes, case, bare)
    with report.attempt("floor"):
        _floor(setting, report, sizes, case, seconds)
    with report.attempt("few prompts"):
        _tell(report, sizes.few, sizes.experts, measured(replace(case, prompts=case.prompts[: sizes.few]), setting))
    with report.attempt("host synchronisations"):
        _synchronisations(setting, report, case)
    with report.attempt("more experts"):
        _more_experts(setting, report, sizes, body, sizes.few)
    if seconds and setting.left() > 3 * seconds and len(body.layers()) == sizes.shape.layers:
        with report.attempt("more experts, all prompts"):
            _more_experts(setting, report, sizes, body, sizes.prompts)


@dataclass(frozen=True)
class Measured:
    """Costs of the probe, of the distances, and of the coefficients of each granularity; peak bytes of all."""

    probe: Cost
    distances: Cost
    formulas: dict[str, Cost]
    peak: float

    def seconds(self, granularity: str) -> float:
        """From prompts to coefficients; element-wise ones need no distances."""
        between = 0.0 if granularity == "element" else self.distances.seconds
        return self.probe.seconds + between + self.formulas[granularity].seconds


def measured(case: Case, setting: Setting) -> Measured:
    """Coefficients as a sweep computes them, the signals recorded once."""
    specialists, peaks = case.specialists, list[float]()

    @contextmanager
    def watched() -> Iterator[Cost]:
        with cost(setting.device) as spent:
            yield spent
        peaks.append(torch.cuda.max_memory_allocated() if setting.on_gpu else (spent.memory or 0) * MIB)

    free(setting.device)
    device = torch.device(setting.device)
    with tempfile.TemporaryDirectory() as folder:
        with watched() as probe:
            record_signals(specialists, case.prompts, BATCH, ["factors"], "absolute", Path(folder))
        signals = load_signals(Path(folder))
        with watched() as between:
            distances = measured_distances(signals, JOINT, 0, device=device)
        shapes = tensor_shapes(next(iter(specialists.adapters.values())), "factors")
        formulas = {}
        for name in GRANULARITIES:
            with watched() as formulas[name]:
                coefficients(signals, ESConfig(name, resamples=0), shapes, 0, distances, device).tensors()
    return Measured(probe, between, formulas, max(peaks))


def _published(setting: Setting, report: Report, sizes: Sizes, case: Case, bare: int) -> float:
    result = measured(case, setting)
    _tell(report, len(case.prompts), sizes.experts, result)
    stages = {"probe": result.probe, "distances": result.distances}
    stages |= {f"{name} formulas": spent for name, spent in result.formulas.items()}
    for name, spent in stages.items():
        report.row(STAGES, stage=name, seconds=spent.seconds, peak_beyond_MB=(spent.memory or 0) * MIB / 1e6)
    seconds = result.seconds("joint")
    report.goal(f"joint coefficients, {len(case.prompts)} prompts", f"{seconds:.1f} s", "< 60 s", seconds < 60)
    if setting.on_gpu:
        ratio = result.peak / bare
        report.goal("peak / the backbone with its adapters", f"{ratio:.3f}", "< 1.15", ratio < 1.15)
    return seconds


def _tell(report: Report, prompts: int, experts: int, result: Measured) -> None:
    for name in GRANULARITIES:
        report.row(PASSES, what=f"ours, {name}", prompts=prompts, experts=experts, seconds=result.seconds(name),
                   peak_GB=result.peak / 1e9)  # fmt: skip


def _floor(setting: Setting, report: Report, sizes: Sizes, case: Case, joint_seconds: float | None) -> None:
    """The floor on the prompts that fit its time, multiplied to all."""
    free(setting.device)
    if setting.on_gpu:
        torch.cuda.reset_peak_memory_stats()
    measured_prompts, seconds = 0, 0.0
    clock = None
    for count in floor_batches(case):
        synchronize(setting.device)
        now = time.perf_counter()
        if clock is not None:  # the first batch warms up
            measured_prompts, seconds = measured_prompts + count, seconds + now - clock
        clock = now
        if seconds > min(sizes.floor_seconds, setting.left() / 3):
            break
    floor_time = seconds / measured_prompts * len(case.prompts)
    peak = torch.cuda.max_memory_allocated() / 1e9 if setting.on_gpu else None
    report.row(PASSES, what="floor", prompts=len(case.prompts), experts=sizes.experts, seconds=floor_time, peak_GB=peak,
               measured_on=f"{measured_prompts} prompts, {seconds:.1f} s")  # fmt: skip
    if joint_seconds is not None:
        report.goal(
            "joint coefficients / floor, seconds",
            f"{joint_seconds / floor_time:.3f}",
            "<= 0.7",
            joint_seconds / floor_time <= 0.7,
        )


def _synchronisations(setting: Setting, report: Report, case: Case) -> None:
    """How often the host waits for the device: in a probe of few prompts, and of twice as many."""
    if not setting.on_gpu:
        report.note("Host synchronisations are counted on a GPU alone.")
        return
    counts: list[int] = []
    layers = len(case.specialists.backbone.layers())
    for prompts in (8, 16):
        with tempfile.TemporaryDirectory() as folder, synchronisations() as counter:
            probe = case.prompts[:prompts]
            record_signals(case.specialists, probe, BATCH, ["factors"], "absolute", Path(folder))
        counts.append(sum(counter.values()))
        report.row("Host synchronisations of a probe", prompts=prompts, synchronisations=counts[-1])
        for line, count in counter.most_common(10):
            report.row(f"Where the host waits, {prompts} prompts", line=line, times=count)
    added = counts[1] - counts[0]
    report.goal("synchronisations that 8 more prompts add", added, f"< {layers}, one a layer", added < layers)


def _more_experts(setting: Setting, report: Report, sizes: Sizes, body: Backbone, prompts: int) -> None:
    larger = random_case(body, sizes.more, prompts, sizes.length)
    _tell(report, prompts, sizes.more, measured(larger, setting))
