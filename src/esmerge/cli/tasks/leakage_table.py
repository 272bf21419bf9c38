"""Leakage reports as Markdown: three tables over all benchmarks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from esmerge.tasks.leakage import Leakage

NOTHING = "\N{EN DASH}"
SEEN = """\
## Seen in training

Distinct molecules, proteins (by sequence), cells and Bemis-Murcko scaffolds (a molecule without rings is its own), how
many of those in the test split training holds too, and the share of test examples with at least one such, and with
nothing but such. A whole question that training holds would be an error in the split."""
NEAREST = """\
## Nearest training molecule

Tanimoto similarity (Morgan radius 2, 2048 bits) of each distinct test molecule to the nearest in training."""
THROUGH = """\
## Labels through one entity

The answers that training gave for the same entities, averaged, as a prediction of the test examples of which it has
seen one. Whatever lies above the majority needs no interaction to be understood."""


def markdown(reports: Sequence[Leakage]) -> str:
    """All reports as one text."""
    return "\n\n".join(
        [
            SEEN,
            table(
                ["benchmark", "what", "training", "test", "shared", "share", "examples: some seen", "all seen"],
                _overlaps(reports),
            ),
            NEAREST,
            table(["benchmark", "molecules", "= 1", "> 0.9", "5 %", "25 %", "median", "75 %", "95 %"], _near(reports)),
            THROUGH,
            table(["benchmark", "through", "examples", "AUROC", "accuracy", "majority"], _through(reports)),
        ]
    )


def _overlaps(reports: Sequence[Leakage]) -> list[list[str]]:
    return [
        [
            report.benchmark,
            *(one.kind, str(one.train), str(one.test), str(one.shared), _number(one.shared / one.test)),
            *(_number(one.any_share), _number(one.all_share)),
        ]
        for report in reports
        for one in report.overlaps
    ]


def _near(reports: Sequence[Leakage]) -> list[list[str]]:
    found = [(report.benchmark, report.nearest) for report in reports if report.nearest is not None]
    return [
        [name, str(near.molecules), *map(_number, (near.equal, near.close, *near.quantiles))] for name, near in found
    ]


def _through(reports: Sequence[Leakage]) -> list[list[str]]:
    return [
        [report.benchmark, one.modality, str(one.examples), *map(_number, (one.auroc, one.accuracy, one.majority))]
        for report in reports
        for one in report.baselines
    ]


def _number(value: float) -> str:
    return NOTHING if math.isnan(value) else f"{value:.3f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, padded so that it reads well on a terminal too."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [[text.ljust(width) for text, width in zip(row, widths, strict=True)] for row in [head, *rows]]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
