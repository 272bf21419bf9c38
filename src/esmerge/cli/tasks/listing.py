"""``python -m src.tasks list``: counts, balance, overlap and refusals of benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from esmerge.cli.tasks.options import DEFAULTS, chosen_names, load, read_config
from esmerge.core.prompts import Benchmark, Example, Reject
from esmerge.storage.files import write_table

OPTIONS: dict[str, Any] = {**DEFAULTS, "rejects": None}
SHOWN = 5  # refusals of a benchmark that are printed
HEADER = f"{'benchmark':<20}{'train':>16}{'validation':>16}{'test':>16}{'rejects':>9}{'seen in training':>30}  sha256"


def listing(names: Sequence[str], options: Any) -> None:
    """Print the table, one line per benchmark as it is read, and then the first refusals of each.

    Args:
        names: benchmarks; those of the suite if empty.
        options: as in ``OPTIONS``; ``rejects`` is a CSV file for the refusals, written anew.
    """
    chosen = chosen_names(names, options)
    print(HEADER)
    refused: list[tuple[str, Reject]] = []
    for name in chosen:
        benchmark = load(read_config("benchmark", name, options), options)
        print(line(benchmark), flush=True)
        refused += [(name, reject) for reject in benchmark.rejects]
        if options.rejects is not None:
            rows = [(owner, reject.row, reject.reason) for owner, reject in refused]
            write_table(Path(options.rejects), pd.DataFrame(rows, columns=["benchmark", "row", "reason"]))
    for said in _shown(refused):
        print(said)


def line(benchmark: Benchmark) -> str:
    """Counts with the share of positive labels for each split, and how much of the test split training has seen."""
    splits = (_count(examples) for examples in (benchmark.train, benchmark.validation, benchmark.test))
    counts = "".join(f"{count:>16}" for count in splits)
    found = dict.fromkeys(entity.modality for entity in benchmark.test[0].entities())
    seen = ", ".join(f"{modality} {seen_in_training(benchmark, modality):.3f}" for modality in found)
    return f"{benchmark.name:<20}{counts}{len(benchmark.rejects):>9}{seen:>30}  {benchmark.checksum}"


def seen_in_training(benchmark: Benchmark, modality: str) -> float:
    """Share of the test examples whose entities of this modality all occur in training: what a model may remember."""
    known = {entity for example in benchmark.train for entity in example.entities(modality)}
    return sum(known.issuperset(example.entities(modality)) for example in benchmark.test) / len(benchmark.test)


def _shown(refused: Sequence[tuple[str, Reject]]) -> list[str]:
    """The first refusals of each benchmark, and how many more there are."""
    lines = []
    for name in dict.fromkeys(name for name, _ in refused):
        mine = [reject for owner, reject in refused if owner == name]
        lines += [f"{name}  {reject.row}: {reject.reason}" for reject in mine[:SHOWN]]
        if len(mine) > SHOWN:
            lines.append(f"{name}  and {len(mine) - SHOWN} more: rejects=FILE writes them all")
    return lines


def _count(examples: tuple[Example, ...]) -> str:
    share = sum(example.answer == 1 for example in examples) / max(1, len(examples))
    return f"{len(examples)} ({share:.3f})"
