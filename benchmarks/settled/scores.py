"""Accuracies, intervals and comparisons in one world.

An interval resamples the seeds and, beside them, the questions: the same resample for every contender, so that
differences are paired. A seed is a draw of the world and of its training; a question returns under every seed that asks
it. With one seed the questions alone are resampled.

A difference counts as significant if both agree: the exact sign-flip test over questions (``evaluation.significance``)
after Holm's correction over all comparisons of its set, which speaks of new questions for these trained models; and
the paired interval, which speaks of new seeds too and must leave out zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from benchmarks.settled.runs import Marks
from benchmarks.settled.worlds import Contender, World
from numpy.typing import NDArray

from esmerge.core.errors import InputError
from esmerge.evaluation.sign_flips import sign_flip_p
from esmerge.evaluation.significance import holm
from esmerge.report.statistics import LEVEL, Column

RESAMPLES = 2000
BOUNDS = [2.5, 97.5]


@dataclass(frozen=True)
class Score:
    """Accuracy as a share, the mean over a column's benchmarks and over seeds, and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """One contender's accuracy minus another's, its paired 95 % interval, and the exact test's p over questions."""

    value: float
    low: float
    high: float
    p: float
    p_holm: float = 1.0

    @property
    def significant(self) -> bool:
        """In either direction."""
        return self.p_holm < LEVEL and not self.low <= 0 <= self.high


@dataclass(frozen=True)
class Answers:
    """Right and wrong of everyone in a world on one column.

    Attributes:
        contenders: those of the world that were asked everything of the column.
        right: benchmark by benchmark, (contenders, seeds, questions), 1 where right.
        asked: (seeds, questions), 1 where a question is asked under a seed.
        means: (contenders,).
        resampled: (contenders, resamples).
    """

    contenders: tuple[Contender, ...]
    right: tuple[NDArray[np.float64], ...]
    asked: tuple[NDArray[np.float64], ...]
    means: NDArray[np.float64]
    resampled: NDArray[np.float64]

    def score(self, contender: Contender) -> Score:
        """A contender's accuracy."""
        at = self._at(contender)
        low, high = np.percentile(self.resampled[at], BOUNDS)
        return Score(float(self.means[at]), float(low), float(high))

    def difference(self, first: Contender, second: Contender) -> Difference:
        """The first's accuracy minus the second's; not yet corrected for other comparisons."""
        first_index, second_index = self._at(first), self._at(second)
        low, high = np.percentile(self.resampled[first_index] - self.resampled[second_index], BOUNDS)
        signed = np.concatenate([(right[first_index] - right[second_index]).sum(axis=0) for right in self.right])
        p = sign_flip_p(np.rint(signed).astype(np.int64))
        return Difference(float(self.means[first_index] - self.means[second_index]), float(low), float(high), p)

    def _at(self, contender: Contender) -> int:
        return next(at for at, candidate in enumerate(self.contenders) if candidate is contender)


def answers(world: World, column: Column, resamples: int = RESAMPLES) -> Answers:
    """Everyone's answers on a column.

    Raises:
        InputError: two contenders were not asked the same questions under one seed.
    """
    contenders = tuple(contender for contender in world.contenders if contender.answers(column, world.seeds))
    right, masks = zip(*[_benchmark(contenders, world.seeds, name) for name in column.benchmarks], strict=True)
    draws = np.random.default_rng(0)
    seeds = len(world.seeds)
    weights = draws.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples).astype(float)  # (resamples, seeds)
    once = np.ones((1, seeds))
    means, resampled = [], []
    for hits, mask in zip(right, masks, strict=True):
        questions = mask.shape[1]
        times = draws.multinomial(questions, np.full(questions, 1 / questions), size=resamples).astype(float)
        means.append(_ratio(hits, mask, once, np.ones((1, questions)))[:, 0])
        resampled.append(_ratio(hits, mask, weights, times))
    return Answers(contenders, right, masks, np.mean(means, axis=0), np.mean(resampled, axis=0))


def correct(differences: Iterable[Difference]) -> list[Difference]:
    """The differences of one set with Holm's correction over all of them."""
    several = list(differences)
    adjusted = holm([difference.p for difference in several]) if several else []
    return [replace(difference, p_holm=p) for difference, p in zip(several, adjusted, strict=True)]


def duels(table: Answers, contenders: Sequence[Contender]) -> dict[str, tuple[int, int]]:
    """Title -> significant wins and losses against every other contender, corrected over all pairs."""
    pairs = [(first, second) for at, first in enumerate(contenders) for second in contenders[at + 1 :]]
    differences = correct(table.difference(first, second) for first, second in pairs)
    counts = {contender.title: [0, 0] for contender in contenders}
    for (first, second), difference in zip(pairs, differences, strict=True):
        if difference.significant:
            better, worse = (first, second) if difference.value > 0 else (second, first)
            counts[better.title][0] += 1
            counts[worse.title][1] += 1
    return {title: (won, lost) for title, (won, lost) in counts.items()}


def ranks(table: Answers, contenders: Sequence[Contender]) -> dict[str, float]:
    """Title -> rank by accuracy, the best is 1; equals share the mean of their ranks."""
    values = np.array([table.score(contender).value for contender in contenders])
    return {
        contender.title: 1 + float((values > value).sum()) + float((values == value).sum() - 1) / 2
        for contender, value in zip(contenders, values, strict=True)
    }


def _ratio(
    right: NDArray[np.float64], mask: NDArray[np.float64], seeds: NDArray[np.float64], questions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weighted accuracies, (contenders, resamples), for weights of seeds and questions, (resamples, ·) each."""
    hits = np.einsum("csr,rs->cr", right @ questions.T, seeds)
    total = np.einsum("sr,rs->r", mask @ questions.T, seeds)
    return hits / np.maximum(total, 1)


def _benchmark(
    contenders: Sequence[Contender], seeds: Sequence[str], benchmark: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Right or wrong, (contenders, seeds, questions), and what was asked, (seeds, questions)."""
    first = [_marks(contenders[0], seed, benchmark) for seed in seeds]
    questions = np.unique(np.concatenate([marks.questions for marks in first]))
    right = np.zeros((len(contenders), len(seeds), len(questions)))
    mask = np.zeros((len(seeds), len(questions)))
    for row, (seed, expected) in enumerate(zip(seeds, first, strict=True)):
        places = np.searchsorted(questions, expected.questions)
        mask[row, places] = 1
        for at, contender in enumerate(contenders):
            marks = _marks(contender, seed, benchmark)
            if marks.asked != expected.asked:
                raise InputError(
                    f"{contender.title} was not asked the questions of {contenders[0].title} on {benchmark}, seed "
                    f"{seed}: a paired comparison needs the same; run both with the same benchmark, limit and seed"
                )
            right[at, row, places] = marks.right
    return right, mask


def _marks(contender: Contender, seed: str, benchmark: str) -> Marks:
    marks = contender.marks(seed, benchmark)
    if marks is None:
        raise InputError(f"{contender.title} has no answers on {benchmark}, seed {seed}: run the sweep again")
    return marks
