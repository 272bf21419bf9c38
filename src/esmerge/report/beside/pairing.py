"""Method by method and benchmark by benchmark: a against b, paired where the questions are the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from esmerge.core.errors import InputError
from esmerge.evaluation.power import minimum_detectable
from esmerge.evaluation.significance import KEY, holm, paired_difference, stack_predictions
from esmerge.evaluation.unpaired import unpaired_difference
from esmerge.report.beside.types import AnsweredSet, Answers, Key
from esmerge.report.paired import RESAMPLES
from esmerge.report.statistics import LEVEL

COLUMNS = ("method", "benchmark", "paired", "n", "n_a", "n_b", "accuracy_a", "accuracy_b", "difference", "ci_low",
           "ci_high", "p", "p_holm", "detectable", "total_a", "total_b", "total_accuracy_a", "total_accuracy_b",
           "has_text", "obstacle", "questions_return")  # fmt: skip


@dataclass(frozen=True)
class Side:
    """One source's part of a match.

    Attributes:
        answers: over the seeds that both sources have; columns ``repeat, id, label, prediction``.
        total, total_right: answers to the benchmark over all seeds of this source, and the right ones among them.
    """

    answers: pd.DataFrame
    total: int
    total_right: int


@dataclass(frozen=True)
class Match:
    """One method of both sources on one benchmark.

    Attributes:
        same_tables: False where it is known that the ids point into different tables.
        has_text: False where a source has ids without the questions.
    """

    method: str
    benchmark: str
    a: Side
    b: Side
    same_tables: bool
    has_text: bool

    def obstacle(self) -> str:
        """Why answers cannot be paired; empty where they can."""
        if not self.same_tables:
            return "the tables differ"
        joined = self._joined()
        if joined.empty:
            return "no question is in both" + ("" if self.has_text else ", and a log does not hold what was asked")
        contradicting = int((joined["label_a"] != joined["label_b"]).sum())
        return f"{contradicting} of {len(joined)} shared questions have another target" if contradicting else ""

    def shared(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The answers to the questions that both were asked."""
        keys = pd.MultiIndex.from_frame(self._joined()[KEY])
        a, b = (frame[pd.MultiIndex.from_frame(frame[KEY]).isin(keys)] for frame in (self.a.answers, self.b.answers))
        return a, b

    def _joined(self) -> pd.DataFrame:
        return self.a.answers.merge(self.b.answers, on=KEY, suffixes=("_a", "_b"))


def method_pairs(a: Answers, b: Answers) -> list[tuple[str, str]]:
    """Methods of a and b that are compared: of one title; two sources of one method each whatever it is called."""
    pairs = [(title, title) for title in a.methods if title in b.methods]
    if not pairs and len(a.methods) == len(b.methods) == 1:
        pairs = [(next(iter(a.methods)), next(iter(b.methods)))]
    return pairs


def matches(a: Answers, b: Answers) -> list[Match]:
    """What both sources have, over the seeds that both have; ``notes.only_in_one`` names the rest.

    Raises:
        InputError: other programs' logs that say by different metrics what is right.
    """
    matched = []
    for first, second in method_pairs(a, b):
        method = first if first == second else f"{first} / {second}"
        common = [key for key in a.methods[first] if key in b.methods[second]]
        for benchmark in dict.fromkeys(name for _, name in common):
            keys = [key for key in common if key[1] == benchmark]
            matched.append(_match(method, benchmark, keys, a.methods[first], b.methods[second]))
    return matched


def compare_matches(matched: Sequence[Match]) -> pd.DataFrame:
    """One row per match in ``COLUMNS``: accuracies and difference a − b as shares, Holm's correction over all rows."""
    level = LEVEL / max(1, len(matched))
    rows = [_compared(match, level) for match in matched]
    adjusted = holm([float(str(row["p"])) for row in rows])
    return pd.DataFrame([{**row, "p_holm": p} for row, p in zip(rows, adjusted, strict=True)], columns=list(COLUMNS))


def _match(
    method: str, benchmark: str, keys: Sequence[Key], a: Mapping[Key, AnsweredSet], b: Mapping[Key, AnsweredSet]
) -> Match:
    for key in keys:
        if a[key].metric and b[key].metric and a[key].metric != b[key].metric:
            raise InputError(
                f"{benchmark}: A says what is right by {a[key].metric}, B by {b[key].metric}: log both with one metric"
            )
    sums = [(a[key].checksum, b[key].checksum) for key in keys]
    return Match(
        method=method,
        benchmark=benchmark,
        a=_side(benchmark, keys, a),
        b=_side(benchmark, keys, b),
        same_tables=all(x == y or not x or not y for x, y in sums),
        has_text=all(sets[key].has_text for sets in (a, b) for key in keys),
    )


def _side(benchmark: str, keys: Sequence[Key], sets: Mapping[Key, AnsweredSet]) -> Side:
    frames = [answer_set.answers for (_, name), answer_set in sets.items() if name == benchmark]
    return Side(
        answers=stack_predictions({key: sets[key].answers for key in keys}),
        total=sum(map(len, frames)),
        total_right=sum(map(_right, frames)),
    )


def _compared(match: Match, level: float) -> dict[str, object]:
    obstacle = match.obstacle()
    a, b = (match.a.answers, match.b.answers) if obstacle else match.shared()
    right = [_right(frame) for frame in (a, b)]
    facts = {
        "method": match.method,
        "benchmark": match.benchmark,
        "paired": not obstacle,
        "obstacle": obstacle,
        "questions_return": any(side.answers["id"].duplicated().any() for side in (match.a, match.b)),
        "has_text": match.has_text,
        "n_a": len(match.a.answers),
        "n_b": len(match.b.answers),
        "total_a": match.a.total,
        "total_b": match.b.total,
        "total_accuracy_a": match.a.total_right / match.a.total,
        "total_accuracy_b": match.b.total_right / match.b.total,
        "accuracy_a": right[0] / len(a),
        "accuracy_b": right[1] / len(b),
    }
    if obstacle:
        unpaired = unpaired_difference(right[0], len(a), right[1], len(b), level)
        return {**facts, **_numbers(unpaired.difference, unpaired.ci_low, unpaired.ci_high, unpaired.p_value),
                "detectable": unpaired.detectable, "n": 0}  # fmt: skip
    result = paired_difference(a, b, seed=0, resamples=RESAMPLES)
    return {**facts, **_numbers(result.difference, result.ci_low, result.ci_high, result.p_value),
            "detectable": minimum_detectable(result, level), "n": result.n}  # fmt: skip


def _right(answers: pd.DataFrame) -> int:
    return int((answers["label"] == answers["prediction"]).sum())


def _numbers(difference: float, low: float, high: float, p: float) -> dict[str, object]:
    return {"difference": difference, "ci_low": low, "ci_high": high, "p": p}
