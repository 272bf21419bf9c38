"""What directions gain over the start, with intervals over seeds and questions, as a page."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

import numpy as np
from benchmarks.directions.directions import DIRECTIONS
from numpy.typing import NDArray

START = "start"
RESAMPLES = 2000
FAMILIES = {
    "cross-modal": ("drug_protein", "drug_cell", "drug_drug_cell"),
    "drug–drug": ("drug_drug",),
    "retention": ("molecule_class", "protein_family", "cell_lineage"),
}
Right = Mapping[str, str]
"""Benchmark -> a digit for each question: 1 where it was answered right."""
Worlds = Mapping[str, Mapping[int, Mapping[str, Right]]]
"""World -> seed -> direction -> what it answered right."""

HOW = f"""\
Accuracies in % on validation questions, means over the benchmarks of a family and over seeds; every other number is a
difference in points from the first line, on the same questions. Intervals (95 %) resample seeds and, within them,
questions, {RESAMPLES:,} times. In bold: intervals without zero."""


def page(worlds: Worlds, words: Sequence[str]) -> str:
    """The page as Markdown; a direction that a world or seed lacks leaves a gap, or is over fewer seeds, as it says."""
    measured = {name for seeds in worlds.values() for answers in seeds.values() for name in answers}
    head = ["direction", *[f"{world}: {family}" for world in worlds for family in FAMILIES]]
    lines = []
    for group in dict.fromkeys(entry.group for entry in DIRECTIONS.values()):
        members = [name for name, entry in DIRECTIONS.items() if entry.group == group and name in measured]
        lines += [[f"*{group}*"], *[_line(name, worlds) for name in members]] if members else []
    table = ["| " + " | ".join([*line, *[""] * (len(head) - len(line))]) + " |" for line in [head, *lines]]
    table.insert(1, "|---|" + "---:|" * (len(head) - 1))
    measured_seeds = sorted({seed for seeds in worlds.values() for seed, answers in seeds.items() if answers})
    parts = [
        "# Directions of span regression: what each gains",
        "```bash\n" + shlex.join(["python", "-m", "benchmarks.directions", *words]) + "\n```",
        f"{HOW} Seeds {', '.join(map(str, measured_seeds))}.",
        "\n".join(table),
    ]
    return "\n\n".join(parts) + "\n"


def _line(name: str, worlds: Worlds) -> list[str]:
    cells = [DIRECTIONS[name].what]
    for seeds in worlds.values():
        measured = {seed: answers for seed, answers in seeds.items() if name in answers and START in answers}
        cells += [_cell(name, measured, family, len(seeds)) for family in FAMILIES]
    return cells


def _cell(name: str, seeds: Mapping[int, Mapping[str, Right]], family: str, all_seeds: int) -> str:
    if not seeds:
        return "–"
    of_seeds = [answers[name] for answers in seeds.values()]
    if name == START:
        return f"{100 * np.mean([_hits(right, b).mean() for right in of_seeds for b in FAMILIES[family]]):.1f}"
    starts = [answers[START] for answers in seeds.values()]
    gained = [
        [_hits(right, benchmark) - _hits(start, benchmark) for benchmark in FAMILIES[family]]
        for right, start in zip(of_seeds, starts, strict=True)
    ]
    value, low, high = interval(gained)
    text = f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
    fewer = f" (of {len(seeds)} of {all_seeds} seeds)" if len(seeds) < all_seeds else ""
    return (f"**{text}**" if low > 0 or high < 0 else text) + fewer


def interval(gained: Sequence[Sequence[NDArray[np.float64]]]) -> tuple[float, float, float]:
    """Mean over seeds, benchmarks and questions, and its 95 % interval.

    Args:
        gained: of every seed and benchmark, (questions,): 1 won, -1 lost, 0 as before.
    """
    draws = np.random.default_rng(0)
    of_seeds = []
    for benchmarks in gained:
        means = []
        for outcomes in benchmarks:
            times = draws.multinomial(len(outcomes), np.full(len(outcomes), 1 / len(outcomes)), size=RESAMPLES)
            means.append(times @ outcomes / len(outcomes))
        of_seeds.append(np.mean(means, axis=0))
    resampled = np.stack(of_seeds)  # (seeds, resamples)
    count = len(resampled)
    chosen = draws.integers(count, size=(count, RESAMPLES))
    low, high = np.percentile(np.take_along_axis(resampled, chosen, axis=0).mean(axis=0), [2.5, 97.5])
    value = float(np.mean([np.mean([outcomes.mean() for outcomes in benchmarks]) for benchmarks in gained]))
    return value, float(low), float(high)


def _hits(right: Right, benchmark: str) -> NDArray[np.float64]:
    return np.array([int(digit) for digit in right[benchmark]], dtype=float)
