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
           "ci_high", "p", "p_holm", "detectable")  # fmt: skip


@dataclass(frozen=True)
class Match:
    """One method of both sources on one benchmark, over the seeds that both have.

    Attributes:
        a, b: columns ``repeat, id, label, prediction``.
        same_tables: False where it is known that the ids point into different tables.
    """

    method: str
    benchmark: str
    a: pd.DataFrame
    b: pd.DataFrame
    same_tables: bool

    def shared(self) -> tuple[pd.DataFrame, pd.DataFrame] | None:
        """The answers to the questions that both were asked; None where there are none, or labels contradict."""
        joined = self.a.merge(self.b, on=KEY, suffixes=("_a", "_b"))
        if not self.same_tables or joined.empty or (joined["label_a"] != joined["label_b"]).any():
            return None
        keys = pd.MultiIndex.from_frame(joined[KEY])
        a, b = (frame[pd.MultiIndex.from_frame(frame[KEY]).isin(keys)] for frame in (self.a, self.b))
        return a, b


def matches(a: Answers, b: Answers) -> list[Match]:
    """What both sources have; two sources of one method each are compared whatever the methods are called.

    Raises:
        InputError: other programs' logs that say by different metrics what is right.
    """
    pairs = [(title, title) for title in a.methods if title in b.methods]
    if not pairs and len(a.methods) == len(b.methods) == 1:
        pairs = [(next(iter(a.methods)), next(iter(b.methods)))]
    matched = []
    for first, second in pairs:
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
    first, second = (stack_predictions({key: sets[key].answers for key in keys}) for sets in (a, b))
    sums = [(a[key].checksum, b[key].checksum) for key in keys]
    return Match(method, benchmark, first, second, all(x == y or not x or not y for x, y in sums))


def _compared(match: Match, level: float) -> dict[str, object]:
    shared = match.shared()
    a, b = shared or (match.a, match.b)
    right = [int((frame["label"] == frame["prediction"]).sum()) for frame in (a, b)]
    facts = {"method": match.method, "benchmark": match.benchmark, "paired": shared is not None}
    facts |= {
        "n_a": len(match.a),
        "n_b": len(match.b),
        "accuracy_a": right[0] / len(a),
        "accuracy_b": right[1] / len(b),
    }
    if shared is None:
        unpaired = unpaired_difference(right[0], len(a), right[1], len(b), level)
        return {**facts, **_numbers(unpaired.difference, unpaired.ci_low, unpaired.ci_high, unpaired.p_value),
                "detectable": unpaired.detectable, "n": 0}  # fmt: skip
    result = paired_difference(a, b, seed=0, resamples=RESAMPLES)
    return {**facts, **_numbers(result.difference, result.ci_low, result.ci_high, result.p_value),
            "detectable": minimum_detectable(result, level), "n": result.n}  # fmt: skip


def _numbers(difference: float, low: float, high: float, p: float) -> dict[str, object]:
    return {"difference": difference, "ci_low": low, "ci_high": high, "p": p}
