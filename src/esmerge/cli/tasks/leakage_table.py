"""Leakage reports as Markdown: three tables over all benchmarks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from esmerge.tasks.leakage import QUESTION, EntityBaseline, Leakage, Overlap

NOTHING = "\N{EN DASH}"
MOST, SHOWN = 100, 40  # letters of an entity that stands whole in a cell, and of a longer one
OVERLAP = """\
## Seen in training

Distinct molecules, proteins (by sequence), cells and Bemis-Murcko scaffolds (a molecule without rings is its own), how
many of those in the test split training holds too, and the share of test examples with at least one such, and with
nothing but such. A whole question that training holds would be an error in the split."""
MERGED = """\
## One molecule, written in two ways

Test molecules and whole questions that training holds in another form only: as a salt, in another charge state or with
isotope labels (parent), or with other stereochemistry or as a tautomer too (connectivity); see `benchmark.identity`."""
NEAREST_TEXT = """\
## Nearest training molecule

Tanimoto similarity (Morgan radius 2, 2048 bits) of each distinct test molecule to the nearest in training."""
BASELINES = """\
## Labels through one entity

The answers that training gave for the same entities, averaged, as a prediction of the test examples of which it has
seen one. Whatever lies above the majority needs no interaction to be understood."""


def leakage_markdown(reports: Sequence[Leakage]) -> str:
    """All reports as one text."""
    return "\n\n".join(
        [
            OVERLAP,
            markdown_table(
                ["benchmark", "what", "training", "test", "shared", "share", "examples: some seen", "all seen"],
                _overlaps(reports),
            ),
            MERGED,
            markdown_table(["benchmark", "what", "rule", "shared", "examples: some seen", "e.g."], _merged(reports)),
            NEAREST_TEXT,
            markdown_table(
                ["benchmark", "molecules", "= 1", "> 0.9", "5 %", "25 %", "median", "75 %", "95 %"], _near(reports)
            ),
            BASELINES,
            markdown_table(["benchmark", "through", "examples", "AUROC", "accuracy", "majority"], _baselines(reports)),
        ]
    )


def _overlaps(reports: Sequence[Leakage]) -> list[list[str]]:
    return [[report.benchmark, *_overlap_cells(overlap)] for report in reports for overlap in report.overlaps]


def _overlap_cells(overlap: Overlap) -> list[str]:
    shares = (overlap.shared / overlap.test, overlap.any_share, overlap.all_share)
    return [overlap.kind, *map(str, (overlap.train, overlap.test, overlap.shared)), *map(_number, shares)]


def _merged(reports: Sequence[Leakage]) -> list[list[str]]:
    return [
        [
            *(report.benchmark, row.kind, row.rule, str(row.shared), _number(row.any_share)),
            "; ".join(" is ".join(_short(value, row.kind) for value in pair) for pair in row.pairs) or NOTHING,
        ]
        for report in reports
        for row in report.merged
    ]


def _short(value: str, kind: str) -> str:
    """A molecule, or the entities of a question after their modalities, each cut with its total length."""
    if kind == QUESTION:
        parts = (line.partition(" ") for line in value.split("\n"))
        return " + ".join(f"{modality} {_short(entity, modality)}" for modality, _, entity in parts)
    return value if len(value) <= MOST else f"{value[:SHOWN]}… ({len(value)} letters)"


def _near(reports: Sequence[Leakage]) -> list[list[str]]:
    rows = [(report.benchmark, report.nearest) for report in reports if report.nearest is not None]
    return [
        [name, str(nearest.molecules), *map(_number, (nearest.equal, nearest.close, *nearest.quantiles))]
        for name, nearest in rows
    ]


def _baselines(reports: Sequence[Leakage]) -> list[list[str]]:
    return [
        [report.benchmark, baseline.modality, str(baseline.examples), *map(_number, _scores(baseline))]
        for report in reports
        for baseline in report.baselines
    ]


def _scores(baseline: EntityBaseline) -> tuple[float, float, float]:
    return baseline.auroc, baseline.accuracy, baseline.majority


def _number(value: float) -> str:
    return NOTHING if math.isnan(value) else f"{value:.3f}"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, padded so that it reads well on a terminal too."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [[text.ljust(width) for text, width in zip(row, widths, strict=True)] for row in [head, *rows]]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
