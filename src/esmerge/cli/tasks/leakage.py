"""What a test split may owe to its training split: ``python -m src.tasks leakage root=../shared/data suite=real``.

``python -m src.tasks --help`` lists the options. Training splits are measured whole, whatever a sweep samples of them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from omegaconf import DictConfig

from esmerge.cli.tasks.leakage_table import leakage_markdown
from esmerge.cli.tasks.options import DEFAULTS, composed_config, load_from_tables, selected_names
from esmerge.core.errors import InputError
from esmerge.tasks.leakage import Leakage, measure_leakage

OPTIONS: dict[str, object] = {**DEFAULTS, "benchmark": None}


def leakage_reports(names: Sequence[str], options: DictConfig) -> Iterator[Leakage]:
    """Measure one benchmark after the other of those that are named, or of the suite."""
    for name in names:
        print(f"reading {name}", file=sys.stderr, flush=True)
        yield measure_leakage(load_from_tables(composed_config("benchmark", name, options), options))


def report_leakage(names: Sequence[str], options: DictConfig) -> None:
    """Print the report as Markdown; what was measured before an error is printed too.

    Args:
        names: benchmarks; those of the suite if empty.
        options: as in ``OPTIONS``.

    Raises:
        InputError: a test split repeats questions of training, or what ``load_from_tables`` raises.
    """
    selected = selected_names([*names, *([options.benchmark] if options.benchmark else [])], options)
    finished: list[Leakage] = []
    try:
        for leakage in leakage_reports(selected, options):
            finished.append(leakage)  # singly, so that an error leaves the reports before it
    finally:
        if finished:
            print(leakage_markdown(finished))
    repeated = [
        f"{leakage.benchmark} ({leakage.overlaps[-1].shared})" for leakage in finished if leakage.overlaps[-1].shared
    ]
    if repeated:
        raise InputError(f"test questions that training holds too: {', '.join(repeated)}; the split is not disjoint")
