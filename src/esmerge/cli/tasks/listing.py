"""``python -m src.tasks list``: counts, balance, overlap and refusals of benchmarks."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from omegaconf import DictConfig

from esmerge.cli.tasks.options import DEFAULTS, composed_config, load_from_tables, selected_names
from esmerge.core.paths import user_path
from esmerge.core.prompts import Benchmark, Example, Reject
from esmerge.storage.files import write_table

OPTIONS: dict[str, object] = {**DEFAULTS, "rejects": None}
SHOWN = 5  # refusals of a benchmark that are printed
HEADER = f"{'benchmark':<20}{'train':>16}{'validation':>16}{'test':>16}{'rejects':>9}{'seen in training':>30}  sha256"


def listing(names: Sequence[str], options: DictConfig) -> None:
    """Print the table, one line per benchmark as it is read, and then the first refusals of each.

    Args:
        names: benchmarks; those of the suite if empty.
        options: as in ``OPTIONS``; ``rejects`` is a CSV file for the refusals, written anew.
    """
    selected = selected_names(names, options)
    print(HEADER)
    refused: list[tuple[str, Reject]] = []
    for name in selected:
        benchmark = load_from_tables(composed_config("benchmark", name, options), options)
        print(line(benchmark), flush=True)
        refused += [(name, reject) for reject in benchmark.rejects]
        if options.rejects is not None:
            rows = [(owner, reject.row, reject.reason) for owner, reject in refused]
            write_table(
                user_path(options.rejects, "rejects"), pd.DataFrame(rows, columns=["benchmark", "row", "reason"])
            )
    for text in _shown(refused):
        print(text)


def line(benchmark: Benchmark) -> str:
    """Counts with the share of positive labels for each split, and how much of the test split training has seen."""
    splits = (_count(examples) for examples in (benchmark.train, benchmark.validation, benchmark.test))
    counts = "".join(f"{count:>16}" for count in splits)
    modalities = dict.fromkeys(entity.modality for entity in benchmark.test[0].entities())
    overlap = ", ".join(f"{modality} {seen_in_training(benchmark, modality):.3f}" for modality in modalities)
    return f"{benchmark.name:<20}{counts}{len(benchmark.rejects):>9}{overlap:>30}  {benchmark.checksum}"


def seen_in_training(benchmark: Benchmark, modality: str) -> float:
    """Share of the test examples whose entities of this modality all occur in training: what a model may remember."""
    train_entities = {entity for example in benchmark.train for entity in example.entities(modality)}
    return sum(train_entities.issuperset(example.entities(modality)) for example in benchmark.test) / len(
        benchmark.test
    )


def _shown(refused: Sequence[tuple[str, Reject]]) -> list[str]:
    """The first refusals of each benchmark, and how many more there are."""
    lines = []
    for name in dict.fromkeys(name for name, _ in refused):
        rejects = [reject for owner, reject in refused if owner == name]
        lines += [f"{name}  {reject.row}: {reject.reason}" for reject in rejects[:SHOWN]]
        if len(rejects) > SHOWN:
            lines.append(f"{name}  and {len(rejects) - SHOWN} more: rejects=FILE writes them all")
    return lines


def _count(examples: tuple[Example, ...]) -> str:
    share = sum(example.answer == 1 for example in examples) / max(1, len(examples))
    return f"{len(examples)} ({share:.3f})"
