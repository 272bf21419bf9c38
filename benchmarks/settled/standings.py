"""Every world's scores, wins and ranks, computed once, and what all worlds say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from benchmarks.settled.scores import Answers, Score, answers, duels, ranks
from benchmarks.settled.worlds import Contender, World


@dataclass(frozen=True)
class Standings:
    """One world.

    Attributes:
        tables: family of benchmarks -> everyone's answers.
    """

    world: World
    tables: Mapping[str, Answers]

    @property
    def main(self) -> Answers:
        """Everyone's answers on what decides."""
        return self.tables[self.world.main.family]

    def competing(self, tuned: bool) -> list[Contender]:
        """The merges that rank, by accuracy."""
        rivals = [contender for contender in self.world.of(tuned) if contender.competes]
        return sorted(rivals, key=lambda contender: -self.main.score(contender).value)

    @cached_property
    def duels(self) -> dict[bool, dict[str, tuple[int, int]]]:
        """Tuned or not -> title -> significant wins and losses on what decides."""
        return {tuned: duels(self.main, self.competing(tuned)) for tuned in (False, True)}

    def score(self, contender: Contender, family: str) -> Score | None:
        """None where the contender was not asked all such benchmarks, or the world has none."""
        table = self.tables.get(family)
        return table.score(contender) if table and contender in table.contenders else None

    def find(self, title: str, tuned: bool) -> Contender | None:
        """The contender of a title, if the world has it."""
        return next((contender for contender in self.world.of(tuned) if contender.title == title), None)


def standings(world: World) -> Standings:
    """Read and score everything in a world.

    Raises:
        InputError: contenders were asked different questions.
    """
    columns = [
        column
        for column in world.columns
        if any(contender.answers(column, world.seeds) for contender in world.contenders)
    ]
    return Standings(world, {column.family: answers(world, column) for column in columns})


def mean_ranks(worlds: Sequence[Standings], tuned: bool) -> dict[str, float]:
    """Title -> mean rank over the worlds that have such settings, among those that compete in every one of them."""
    fields = {id(standing): standing.competing(tuned) for standing in worlds if standing.competing(tuned)}
    common = (
        set.intersection(*({contender.title for contender in field} for field in fields.values())) if fields else set()
    )
    tables = [
        ranks(standing.main, [contender for contender in fields[id(standing)] if contender.title in common])
        for standing in worlds
        if id(standing) in fields
    ]
    return {title: float(np.mean([table[title] for table in tables])) for title in common}


def total_duels(worlds: Sequence[Standings], tuned: bool) -> dict[str, tuple[int, int]]:
    """Title -> wins and losses, added over the worlds."""
    totals: dict[str, tuple[int, int]] = {}
    for standing in worlds:
        for title, (won, lost) in standing.duels[tuned].items():
            before = totals.get(title, (0, 0))
            totals[title] = (before[0] + won, before[1] + lost)
    return totals


def seconds(contender: Contender) -> float | None:
    """Seconds of measuring and merging, mean over seeds; None where nothing is merged."""
    costs = [runs[0].seconds for runs in contender.runs.values() if runs[0].seconds is not None]
    return float(np.mean(costs)) if costs else None
