"""What a test split may owe to its training split: ``python -m src.tasks leakage root=../shared/data suite=real``.

``python -m src.tasks --help`` lists the options. Training splits are measured whole, whatever a sweep samples of them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from esmerge.cli.tasks.leakage_table import markdown
from esmerge.cli.tasks.options import DEFAULTS, chosen_names, load, read_config
from esmerge.core.errors import InputError
from esmerge.tasks.leakage import Leakage, measure_leakage

OPTIONS: dict[str, Any] = {**DEFAULTS, "benchmark": None}


def reports(names: Sequence[str], options: Any) -> Iterator[Leakage]:
    """Measure one benchmark after the other of those that are named, or of the suite."""
    for name in names:
        print(f"reading {name}", file=sys.stderr, flush=True)
        yield measure_leakage(load(read_config("benchmark", name, options), options))


def report(names: Sequence[str], options: Any) -> None:
    """Print the report as Markdown; what was measured before an error is printed too.

    Args:
        names: benchmarks; those of the suite if empty.
        options: as in ``OPTIONS``.

    Raises:
        InputError: a test split repeats questions of training, or what ``load`` raises.
    """
    named = chosen_names([*names, *([options.benchmark] if options.benchmark else [])], options)
    found: list[Leakage] = []
    try:
        for one in reports(named, options):
            found.append(one)  # one by one, so that an error leaves those before it
    finally:
        if found:
            print(markdown(found))
    repeated = [f"{one.benchmark} ({one.overlaps[-1].shared})" for one in found if one.overlaps[-1].shared]
    if repeated:
        raise InputError(f"test questions that training holds too: {', '.join(repeated)}; the split is not disjoint")
