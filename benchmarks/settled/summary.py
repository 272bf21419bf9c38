"""The verdict as it is read first: one sentence, a line for each world, and ES-Merging beside its controls."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.settled.markdown import ABSENT, percent, points, table
from benchmarks.settled.standings import Standings
from benchmarks.settled.verdict import TOLERATED, Comparison, Controls, Verdict, controls, headline, verdicts
from benchmarks.settled.worlds import Contender

from esmerge.report.statistics import family_title

OURS = " (with a default of this project's)"


def summary(worlds: Sequence[Standings], method: str) -> str:
    """The verdict on a merge, as Markdown.

    Raises:
        InputError: no world has a finished run of it.
    """
    in_worlds = verdicts(worlds, method)
    parts = [headline(in_worlds), _beside_rivals(in_worlds), _reading(in_worlds)]
    absent = {standing.world.name for standing in worlds} - {verdict.standing.world.name for verdict in in_worlds}
    if absent:
        parts.append(f"No finished run of `{method}`: {', '.join(sorted(absent))}.")
    beside_controls = [entry for standing in worlds if (entry := controls(standing))]
    if beside_controls:
        parts.append(_beside_controls(beside_controls))
    return "\n\n".join(parts)


def _beside_rivals(in_worlds: Sequence[Verdict]) -> str:
    title = family_title(in_worlds[0].standing.world.main.family)
    head = [
        "world", "untuned rivals it is above", "level with", "below", title,
        "beside the strongest untuned rival", "beside the best tuned rival", "retention beside the former",
    ]  # fmt: skip
    return table(head, [_world(verdict) for verdict in in_worlds], words=4)


def _world(verdict: Verdict) -> list[str]:
    rivals = len(verdict.untuned)
    return [
        f"{verdict.standing.world.name}, {_seeds(verdict.standing)}",
        f"{rivals - len(verdict.unbeaten)} of {rivals}" if rivals else ABSENT,
        _names(verdict.level),
        _names(verdict.below),
        percent(verdict.score),
        _beside(verdict.untuned[0] if rivals else None),
        _beside(verdict.tuned),
        points(verdict.retention) if verdict.retention else ABSENT,
    ]


def _beside(comparison: Comparison | None) -> str:
    return f"{points(comparison.difference)}, {comparison.rival.title}" if comparison else ABSENT


def _names(rivals: Sequence[Contender]) -> str:
    return ", ".join(rival.title + OURS * rival.is_ours for rival in rivals) or ABSENT


def _reading(in_worlds: Sequence[Verdict]) -> str:
    """What the table's marks mean, and whether retention is kept."""
    text = (
        f"Differences are {in_worlds[0].title} minus the rival, in points; bold: significant. Retention counts as kept "
        f"where it is at most {100 * TOLERATED:.1f} points less: "
    )
    lost = [verdict for verdict in in_worlds if verdict.retention and not verdict.keeps_retention]
    unknown = [verdict for verdict in in_worlds if verdict.retention is None]
    sentences = ["it is lost in " + _worlds(lost) if lost else "it is kept"]
    if unknown:
        sentences.append("not asked of both in " + _worlds(unknown))
    return text + "; ".join(sentences) + "."


def _beside_controls(entries: Sequence[Controls]) -> str:
    titles = dict.fromkeys(comparison.rival.title for entry in entries for comparison in entry.comparisons)
    differences = [
        {comparison.rival.title: comparison.difference for comparison in entry.comparisons} for entry in entries
    ]
    lines = [
        [title, *[points(by_title[title]) if title in by_title else ABSENT for by_title in differences]]
        for title in titles
    ]
    intro = (
        f"{entries[0].title} beside its controls, which share its form or its norms and have none of its signal "
        "(ES-Merging minus the control, in points):"
    )
    return f"{intro}\n\n{table(['control', *[entry.world for entry in entries]], lines, words=1)}"


def _worlds(in_worlds: Sequence[Verdict]) -> str:
    return ", ".join(verdict.standing.world.name for verdict in in_worlds)


def _seeds(standing: Standings) -> str:
    return f"{len(standing.world.seeds)} seed{'s' * (len(standing.world.seeds) != 1)}"
