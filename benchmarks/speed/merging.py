"""Seconds and peak memory of every merge, beside mergekit's and PEFT's own, as a table.

    python -m benchmarks.speed.merging --out benchmarks/results/speed.md

Merges that stay low-rank are measured on --layers layers, those that compute dense updates on --dense-layers; seconds
are scaled to the model's depth and marked where they were. --csv gets a row per measurement, with the floor of its
seconds: its counted matrix products at the speed of a large one.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from benchmarks.speed.cases import cases
from benchmarks.speed.contenders import Job
from benchmarks.speed.flops import per_second
from benchmarks.speed.inputs import SHAPES, Adapters
from benchmarks.speed.measure import Measurement, Meter
from benchmarks.speed.rows import append
from benchmarks.speed.table import report

from esmerge.core.progress import progress
from esmerge.storage.files import write_text


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", choices=SHAPES, default="llama-3.1-8b", help="whose linear layers are adapted")
    parser.add_argument("--experts", type=int, default=3)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument("--layers", type=int, help="layers for low-rank merges; all by default")
    parser.add_argument("--dense-layers", type=int, default=1, help="layers for merges of dense updates")
    parser.add_argument("--repeats", type=int, default=3, help="the quickest counts")
    parser.add_argument("--limit", type=float, default=900, help="seconds after which a measurement is given up")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", default="", help="names of merges, separated by commas")
    parser.add_argument("--ours", action="store_true", help="leave mergekit and PEFT out")
    parser.add_argument("--out", type=Path, help="markdown file to write")
    parser.add_argument("--csv", type=Path, help="CSV file to append a row per measurement to")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; 1 if one of our merges could not be measured."""
    options = arguments(argv)
    depth, only = SHAPES[options.shapes].layers, set(filter(None, options.only.split(",")))
    low = Adapters(options.shapes, min(options.layers or depth, depth), options.experts, options.rank, options.dtype)
    selection = cases(low, replace(low, layers=min(options.dense_layers, depth)), only, options.ours)
    jobs = list(dict.fromkeys(job for case in selection for job in case.jobs()))
    torch.set_num_threads(options.threads)
    speed = per_second()

    def keep(job: Job, measured: Measurement) -> None:
        if options.csv:
            append(options.csv, row(job, measured, speed, options.threads))

    measurements = measure(jobs, Meter(options.repeats, options.limit, options.threads), keep)
    text = report(selection, measurements, low, options.threads)
    print(text)
    if options.out:
        write_text(options.out, text)
    return int(any(measurements[case.ours].seconds is None for case in selection if case.ours))


def measure(
    jobs: Sequence[Job], meter: Meter, keep: Callable[[Job, Measurement], None] = lambda job, measured: None
) -> dict[Job, Measurement]:
    """Every job, each said and kept as soon as it is measured."""
    measurements = {}
    with progress("measuring merges", len(jobs)) as bar:
        for job in jobs:
            measurements[job] = meter.measure(job)
            keep(job, measurements[job])
            bar.write(f"{line(job)}: {measurements[job].describe()}", file=sys.stderr)
            bar.update()
    return measurements


def row(job: Job, measured: Measurement, speed: float, threads: int) -> dict[str, object]:
    """A measurement for a table: seconds and memory of the layers that were measured, and the floor of the seconds."""
    floor = None if measured.flop is None else measured.flop / speed
    return {
        "side": job.side, "method": job.method, "space": job.space, "granularity": job.granularity or "",
        "options": " ".join(f"{name}={value}" for name, value in job.options), **asdict(job.adapters),
        "threads": threads, "seconds": measured.seconds, "memory": measured.memory, "flop": measured.flop,
        "floor_seconds": floor, "times_floor": measured.seconds / floor if measured.seconds and floor else None,
        "fault": measured.fault, "machine": platform.machine(), "torch": torch.__version__,
    }  # fmt: skip


def line(job: Job) -> str:
    """A job in one line."""
    return " ".join(
        [job.side, job.method, *filter(None, (job.space, job.granularity)), f"({job.adapters.layers} layers)"]
    )


if __name__ == "__main__":
    sys.exit(main())
