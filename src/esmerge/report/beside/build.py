"""From two sources to the files and the text of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from esmerge.core.errors import InputError, StoreError
from esmerge.evaluation.power import POWER
from esmerge.report.beside.logs import read_log_answers
from esmerge.report.beside.notes import notes_on, repeats_named
from esmerge.report.beside.pairing import compare_matches, matches
from esmerge.report.beside.sweeps import read_sweep_answers
from esmerge.report.beside.types import Answers
from esmerge.report.statistics import LEVEL
from esmerge.storage.files import write_table, write_text

HEADS = ("method", "benchmark", "A", "B", "A − B, points", "p (Holm)", "n", "could have shown")


@dataclass(frozen=True)
class SideBySide:
    """A comparison.

    Attributes:
        table: as ``pairing.compare_matches`` makes it.
        text: as ``comparison.md`` holds it.
    """

    table: pd.DataFrame
    text: str
    paths: tuple[Path, ...]


def read_answers(path: Path) -> Answers:
    """A sweep folder, or per-sample logs of another program.

    Raises:
        StoreError, InputError: there is nothing to read, or it is damaged.
    """
    if not path.exists():
        raise StoreError(f"compare: there is no {path}: expected a sweep folder, a .jsonl file, or a folder of such")
    return read_sweep_answers(path) if any(path.glob("*/status.json")) else read_log_answers(path)


def compare_sources(sources: Sequence[Path], out: Path) -> SideBySide:
    """Write ``comparison.csv`` and ``comparison.md`` of two sources into ``out``.

    Raises:
        StoreError, InputError: a source cannot be read, or both have no method, benchmark and seed in common.
    """
    a, b = (read_answers(path) for path in sources)
    matched = matches(a, b)
    if not matched:
        raise InputError(
            f"{sources[0]} and {sources[1]} have no method and benchmark in common: the first has "
            f"{_listed(a)}, the second {_listed(b)}"
        )
    table = compare_matches(matched)
    text = markdown(table, a, b, sources)
    paths = write_table(out / "comparison.csv", table), write_text(out / "comparison.md", text)
    return SideBySide(table, text, paths)


def markdown(table: pd.DataFrame, a: Answers, b: Answers, sources: Sequence[Path]) -> str:
    """The comparison in GitHub's Markdown, followed by how to read it."""
    titles = {**b.titles, **a.titles}
    head = ["| " + " | ".join(HEADS) + " |", "|---|---" + "|---:" * (len(HEADS) - 2) + "|"]
    rows = []
    for row in table.to_dict("records"):
        shares = [f"{100 * row[name]:.1f}" for name in ("accuracy_a", "accuracy_b")]
        mark = "**" if row["p_holm"] < LEVEL else ""
        span = f"[{100 * row['ci_low']:+.1f}, {100 * row['ci_high']:+.1f}]"
        n = str(row["n"]) if row["paired"] else f"{row['n_a']} / {row['n_b']}, not paired"
        difference = f"{mark}{100 * row['difference']:+.1f}{mark} {span}"
        cells = [row["method"], titles.get(row["benchmark"], row["benchmark"]), *shares, difference]
        cells += ["< 0.001" if row["p_holm"] < 0.001 else f"{row['p_holm']:.3f}", n, f"{100 * row['detectable']:.1f}"]
        rows.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    notes = [f"- {note}" for note in [f"A: {sources[0]}. B: {sources[1]}.", *_legend(table), *notes_on(table, a, b)]]
    return "\n".join([f"# {a.name} and {b.name}", "", *head, *rows, "", *notes, ""])


def _legend(table: pd.DataFrame) -> list[str]:
    tests = "McNemar's exact test on the questions that both were asked (whole clusters where they return under seeds)"
    return [
        f"Accuracy in %, difference with its 95 % interval; bold: p < {LEVEL} after Holm's correction over the "
        f"table's rows ({len(table)}); {tests}. Where questions differ: Newcombe's interval and Fisher's exact test "
        "on all answers.",
        f"Could have shown: the smallest true difference, in points, that n finds with {100 * POWER:.0f} % power at "
        "the strictest step of that correction.",
    ]


def _listed(answers: Answers) -> str:
    keys = [key for sets in answers.methods.values() for key in sets]
    benchmarks = dict.fromkeys(benchmark for _, benchmark in keys)
    repeats = repeats_named(keys)
    return f"{', '.join(answers.methods)} on {', '.join(benchmarks)}{f' ({repeats})' if repeats else ''}"
