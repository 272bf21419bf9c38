"""How time and memory of estimating coefficients grow with a model's layers and width, with probes and with experts.

    python -m benchmarks.speed.growth --out benchmarks/results/coefficients_growth.csv
    python -m benchmarks.speed.growth --no-reference --hidden 576

One number grows at a time, the others stay; each point is the median of processes of their own, ours and the re-enacted
reference without its text in turns. The experts share ``--modalities``. Prints the exponent that fits seconds (1 is
linear), how far peaks of memory grow and what the reference takes for each of ours: ``memory``, beyond the loaded
backbone, holds adapters and coefficients; ``pass`` is what reading the probe takes beyond adapters. A run with
``--out`` that is killed goes on where it stopped.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from benchmarks.speed.coefficients import SIGNALS, child
from benchmarks.speed.kept import Kept
from benchmarks.speed.rows import facts

from esmerge.core.progress import progress
from esmerge.storage.files import write_table

AXES = ("layers", "hidden", "probes", "experts")
OURS, REFERENCE = ("seconds", "memory", "pass"), ("reference_seconds", "reference_memory")
FIXED = ("modalities", "length", "words", "threads")


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line: the values of each axis, the first of which it has while another grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+", default=[8, 16, 32, 64])
    parser.add_argument("--hidden", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument("--probes", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--experts", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--modalities", type=int, default=2)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--words", type=int, default=500)
    parser.add_argument("--reference", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="CSV file to write")
    options = parser.parse_args(argv)
    if not 1 <= options.modalities <= min(options.experts):
        parser.error(
            f"--modalities {options.modalities}: expected from 1 to the least --experts, {min(options.experts)}"
        )
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    options = arguments(argv)
    journal = Kept(options.out, facts(options))
    table = measured(options, journal)
    print(table.to_string(index=False))
    for axis in AXES:
        if len(getattr(options, axis)) > 1:
            print(fitted(table[table["axis"] == axis], axis))
    if options.out:
        write_table(options.out, table)
    journal.done()
    return 0


def measured(options: argparse.Namespace, journal: Kept) -> pd.DataFrame:
    """One row per axis and value: median seconds, and median peak of memory in MiB."""
    points = [(axis, value) for axis in AXES for value in getattr(options, axis)]
    rows = []
    with progress("growth", len(points) * options.repeats) as bar:
        for axis, value in points:
            fixed = {name: getattr(options, name)[0] for name in AXES} | {axis: value}
            fixed |= {name: getattr(options, name) for name in FIXED}
            command = [part for name, number in fixed.items() for part in (f"--{name}", str(number))]
            runs = []
            for turn in range(options.repeats):  # the point at which all axes begin is measured once
                runs.append(journal(f"{fixed}, turn {turn}", partial(point, command, options.reference)))
                bar.update()
            medians = {name: round(statistics.median(run[name] for run in runs), 3) for name in runs[0]}
            rows.append({"axis": axis, "value": value, **fixed, **medians})
    return pd.DataFrame(rows)


def point(command: list[str], reference: bool) -> dict[str, float]:
    """Ours from start to end, our pass alone and, if asked for, the reference; each in a process of its own."""
    costs = child(command, "ours", []) | {"pass": child(command, SIGNALS, [])["memory"]}
    opponent = child(command, "reference", []) if reference else {}
    return costs | {f"reference_{name}": value for name, value in opponent.items()}


def fitted(rows: pd.DataFrame, axis: str) -> str:
    """The exponent of a power law through the seconds, how far memory grows, and the reference beside it, in words."""
    sentences = [_growth(rows, axis, OURS)]
    if REFERENCE[0] in rows:
        sentences.append(f"reference: {_growth(rows, axis, REFERENCE)}")
        ratios = (rows[theirs] / rows[ours].clip(lower=1e-9) for theirs, ours in zip(REFERENCE, OURS, strict=False))
        (low, high), (least, most) = ((ratio.min(), ratio.max()) for ratio in ratios)
        sentences.append(f"reference / ours: {low:.2f} to {high:.2f} in seconds, {least:.1f} to {most:.1f} in memory")
    return f"{axis}: " + "; ".join(sentences)


def _growth(rows: pd.DataFrame, axis: str, columns: Sequence[str]) -> str:
    seconds, *peaks = columns
    exponent = np.polyfit(np.log(rows["value"]), np.log(rows[seconds]), 1)[0]
    grown = {name: rows[name].max() / max(rows[name].min(), 1e-9) for name in peaks}
    named = ", ".join(f"{ratio:.2f} ({name})" for name, ratio in grown.items())
    return f"seconds grow as {axis}^{exponent:.2f}, largest peak / smallest {named}"


if __name__ == "__main__":
    sys.exit(main())
