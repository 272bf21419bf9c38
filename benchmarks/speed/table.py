"""The measurements as markdown, with what has to be known to read them."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence

from benchmarks.speed.cases import Case
from benchmarks.speed.contenders import Job, versions
from benchmarks.speed.inputs import SHAPES, Adapters
from benchmarks.speed.measure import Measurement

MB = 1e6
HEAD = ("merge", "space", "s", "MB", "mergekit", "s", "MB", "ours / mergekit", "PEFT", "s", "MB", "ours / PEFT")
ALONE = ("PEFT's combination type", "s", "MB")
NOTES = """\
- Seconds are the quickest repetition, in a process of its own, with the adapters in memory. A `~` marks seconds that
  were measured on fewer layers and multiplied to the full depth. Ratios are of seconds: below 1, ours is quicker.
- MB is the peak beyond that of a process that only makes the same inputs, for the layers measured: one module's work
  for merges that compute dense updates on demand; what is kept grows with the depth.
- Ours compute in float32 or double and store in the adapters' format. Dense updates are computed one by one and
  dropped, as when they are baked into a checkpoint. Measuring activations, gradients or responses is not included.
- mergekit has no merge of LoRA adapters. Its functions get the dense updates s·B·A in float32, tensor by tensor; the
  product is part of its time, as it is of ours. Methods with a base model get one of zeros. Its TIES trims within each
  tensor (ours within the whole adapter, as in the paper), its Breadcrumbs ranks within each tensor (ours within rows),
  and what it drops at random it makes up for in the L1 norm.
- PEFT's `linear` combines factors, as ours does, but puts the square root of weight · scale on each; `cat` is the exact
  sum, as ours is. Its types named `…_svd` decompose dense updates in full; ours with a rank truncate by a randomised
  SVD, or by that of a small core where the update has low rank. Its base weights take no memory here."""


def report(cases: Sequence[Case], measurements: Mapping[Job, Measurement], low: Adapters, threads: int) -> str:
    """The whole page."""
    depth = SHAPES[low.shapes].layers
    our_rows = [(_label(case.ours), *_row(case, measurements, depth)) for case in cases if case.ours]
    peft_rows = [
        (f"`{c.peft.method}`", *_cells(c.peft, measurements, depth)) for c in cases if c.ours is None and c.peft
    ]
    parts = [_title(low, threads), _markdown(HEAD, our_rows), *_verdicts([c for c in cases if c.ours], measurements)]
    if peft_rows:
        parts += ["PEFT's merges of factors that have no counterpart here:", _markdown(ALONE, peft_rows)]
    faults = [
        f"- {job.side} {job.method}: {measurements[job].fault}"
        for case in cases
        for job in case.jobs()
        if measurements[job].fault
    ]
    return "\n\n".join([*parts, NOTES, *(["Not measured:\n\n" + "\n".join(faults)] if faults else [])]) + "\n"


def ratio(ours: Job, theirs: Job, measurements: Mapping[Job, Measurement]) -> float | None:
    """Our seconds per layer over theirs; None if either was not measured."""
    our_seconds, their_seconds = measurements[ours].seconds, measurements[theirs].seconds
    if our_seconds is None or their_seconds is None:
        return None
    return (our_seconds / ours.adapters.layers) / (their_seconds / theirs.adapters.layers)


def _verdicts(cases: Sequence[Case], measurements: Mapping[Job, Measurement]) -> list[str]:
    """Which merges are slower than their counterparts, and which one in factor space takes the most memory."""
    quotients = {
        f"{_label(case.ours)} ({quotient:.3g} × {counterpart.side}'s `{counterpart.method}`)": quotient
        for case in cases
        for counterpart in (case.mergekit, case.peft)
        if case.ours and counterpart and (quotient := ratio(case.ours, counterpart, measurements)) is not None
    }
    slower = [text for text, quotient in quotients.items() if quotient > 1]
    sentences = [f"Slower than a counterpart, of {len(quotients)}: {', '.join(slower) or 'none'}."] if quotients else []
    shares = {
        _label(job): (measurements[job].memory or 0) / job.adapters.size()
        for job in (case.ours for case in cases)
        if job is not None and job.space == "factors" and measurements[job].seconds is not None
    }
    if shares:
        largest = max(shares, key=lambda label: shares[label])
        sentences.append(f"Most memory in factor space: {largest}, {shares[largest]:.2f} × the adapters' size.")
    return sentences


def _title(low: Adapters, threads: int) -> str:
    library = ", ".join(f"{name} {version}" for name, version in versions().items())
    size = f"{low.size() / MB:.1f} MB on {low.layers} layers"
    return (
        f"# Speed of merging\n\n{low.experts} random adapters of rank {low.rank} in {low.dtype} at the shapes of "
        f"{low.shapes} ({SHAPES[low.shapes].layers} layers): {size}. {_processor()}, {threads} of {os.cpu_count()} "
        f"threads; Python {platform.python_version()}, {library}."
    )


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _label(job: Job) -> str:
    changes = [f"{name}={value}" for name, value in job.options]
    return " ".join([job.method, *([job.granularity] if job.granularity else []), *changes])


def _row(case: Case, measurements: Mapping[Job, Measurement], depth: int) -> list[str]:
    assert case.ours is not None
    cells = [case.ours.space, *_cells(case.ours, measurements, depth)]
    for counterpart in (case.mergekit, case.peft):
        if counterpart is None:
            cells += ["", "", "", ""]
            continue
        quotient = ratio(case.ours, counterpart, measurements)
        cell = "" if quotient is None else f"{quotient:.3g}"
        cells += [f"`{counterpart.method}`", *_cells(counterpart, measurements, depth), cell]
    return cells


def _cells(job: Job, measurements: Mapping[Job, Measurement], depth: int) -> tuple[str, str]:
    """Seconds at full depth, and memory as measured."""
    measured, layers = measurements[job], job.adapters.layers
    if measured.seconds is None or measured.memory is None:
        return measured.fault if measured.fault.startswith(">") else "failed", ""
    mark = "" if layers == depth else "~"
    return f"{mark}{measured.seconds * depth / layers:.3g}", f"{measured.memory / MB:.0f}"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
