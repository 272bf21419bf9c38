"""Whether a merge settles it, computed world by world: beside every untuned rival, and beside the best tuned one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.settled.scores import Difference, Score, correct
from benchmarks.settled.standings import Standings
from benchmarks.settled.worlds import Contender

from esmerge.core.errors import InputError
from esmerge.core.methods import MethodKind
from esmerge.report.tidy.accuracies import RETENTION

TOLERATED = 0.005  # of retention, as a share
AS_PUBLISHED = "(joint, factors)"  # how the title of ES-Merging's published form ends


@dataclass(frozen=True)
class Comparison:
    """A merge beside one rival: the merge's accuracy minus the rival's."""

    rival: Contender
    difference: Difference


@dataclass(frozen=True)
class Verdict:
    """A merge at its published settings in one world.

    Attributes:
        score: on what decides.
        untuned: beside every rival at its published settings, the strongest rival first.
        tuned: beside the best rival with tuned settings, if one has finished.
        retained: what it retains, if retention was asked.
        retention: the same beside the strongest untuned rival, if both were asked.
    """

    standing: Standings
    title: str
    score: Score
    untuned: tuple[Comparison, ...]
    tuned: Comparison | None
    retained: Score | None
    retention: Difference | None

    @property
    def level(self) -> list[Contender]:
        """Untuned rivals that differ in neither direction."""
        return [comparison.rival for comparison in self.untuned if not comparison.difference.significant]

    @property
    def below(self) -> list[Contender]:
        """Untuned rivals that the merge is behind."""
        return [
            comparison.rival
            for comparison in self.untuned
            if comparison.difference.significant and comparison.difference.value < 0
        ]

    @property
    def unbeaten(self) -> list[Contender]:
        """Untuned rivals that the merge is not above."""
        return [*self.level, *self.below]

    @property
    def keeps_retention(self) -> bool:
        """Whether it retains at most ``TOLERATED`` less than the strongest untuned rival; false if that is unknown."""
        return self.retention is not None and self.retention.value >= -TOLERATED


@dataclass(frozen=True)
class Controls:
    """ES-Merging beside what shares its form or its norms and has none of its signal, in one world."""

    world: str
    title: str
    comparisons: tuple[Comparison, ...]


def verdicts(worlds: Sequence[Standings], method: str) -> list[Verdict]:
    """One for each world that has a finished run of the merge at its published settings.

    Raises:
        InputError: no world has.
    """
    pairs = [(standing, contender) for standing in worlds if (contender := _published(standing, method))]
    if not pairs:
        raise InputError(f"no sweep has a finished run of method={method}: give the folder of one, or another --method")
    return [_verdict(standing, contender) for standing, contender in pairs]


def headline(in_worlds: Sequence[Verdict]) -> str:
    """In how many worlds the merge is above every untuned rival, in one sentence."""
    contested = [verdict for verdict in in_worlds if verdict.untuned]
    above_all = [verdict for verdict in contested if not verdict.unbeaten]
    above_published = [verdict for verdict in contested if all(rival.is_ours for rival in verdict.unbeaten)]
    text = f"{in_worlds[0].title} at its published settings is significantly above every untuned rival in "
    text += _count(above_all, in_worlds)
    if above_published != above_all:
        text += f"; above every one that stands as its authors published it in {_count(above_published, in_worlds)}"
    return f"{text}."


def controls(standing: Standings) -> Controls | None:
    """ES-Merging as published beside its controls; None where either is missing."""
    published = standing.world.of(False)
    merges = [contender for contender in published if contender.record.kind is MethodKind.ES]
    rivals = [contender for contender in published if contender.record.kind is MethodKind.CONTROL]
    if not merges or not rivals:
        return None
    form = min(merges, key=lambda contender: not contender.title.endswith(AS_PUBLISHED))
    return Controls(standing.world.name, form.title, _compare(standing, form, rivals))


def _verdict(standing: Standings, contender: Contender) -> Verdict:
    untuned, tuned = (
        [rival for rival in standing.competing(is_tuned) if rival.method != contender.method]
        for is_tuned in (False, True)
    )
    comparisons = _compare(standing, contender, untuned)
    return Verdict(
        standing,
        contender.title,
        standing.main.score(contender),
        comparisons,
        next(iter(_compare(standing, contender, tuned[:1])), None),
        standing.score(contender, RETENTION),
        _retention(standing, contender, untuned[0]) if untuned else None,
    )


def _compare(standing: Standings, contender: Contender, rivals: Sequence[Contender]) -> tuple[Comparison, ...]:
    """Beside each rival, corrected over all of them."""
    differences = correct(standing.main.difference(contender, rival) for rival in rivals)
    return tuple(Comparison(rival, difference) for rival, difference in zip(rivals, differences, strict=True))


def _retention(standing: Standings, contender: Contender, rival: Contender) -> Difference | None:
    if standing.score(contender, RETENTION) is None or standing.score(rival, RETENTION) is None:
        return None
    return standing.tables[RETENTION].difference(contender, rival)


def _published(standing: Standings, method: str) -> Contender | None:
    """The merge at its published settings: of several rows the one whose title names no setting."""
    rows = [row for row in standing.world.of(False) if row.method == method]
    return min(rows, key=lambda row: len(row.title), default=None)


def _count(some: Sequence[Verdict], in_worlds: Sequence[Verdict]) -> str:
    names = [verdict.standing.world.name for verdict in some]
    listing = f" ({', '.join(names)})" if names else ""
    return f"{len(names)} of {len(in_worlds)} {'world' if len(in_worlds) == 1 else 'worlds'}{listing}"
