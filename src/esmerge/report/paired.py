"""Two rows of a table on the same questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from esmerge.core.errors import InputError
from esmerge.evaluation.significance import (
    PairedDifference,
    paired_difference,
    signed_difference,
    stack_predictions,
)
from esmerge.report.load import Row, SweepResults
from esmerge.report.stored_answers import RunAnswers

RESAMPLES = 10_000
Numbers = NDArray[np.int64]


def paired_rows(
    sweep: SweepResults, row: Row, other: Row, seeds: Sequence[str], benchmarks: Sequence[str]
) -> PairedDifference:
    """The answers to all questions of some benchmarks under some seeds, one row against the other.

    Each benchmark under each seed counts equally, as in the accuracies that a table shows, however many questions it
    has.

    Raises:
        InputError: the questions are not the same.
    """
    sides = [_answers(sweep, compared, seeds, benchmarks) for compared in (row, other)]
    pairs = [(answers.questions, sides[1][key].questions) for key, answers in sides[0].items()]
    if all(a is b and a.is_unique for a, b in pairs):
        first_right, second_right = (np.concatenate([answers.right for answers in side.values()]) for side in sides)
        signed = first_right.astype(np.int64) - second_right
        return signed_difference(signed, *_groups(sweep, sides[0]), seed=0, resamples=RESAMPLES)
    for (seed, benchmark), answers in sides[0].items():
        checksums = {answers.questions.checksum, sides[1][seed, benchmark].questions.checksum} - {""}
        if len(checksums) > 1:
            raise InputError(f"the questions of {benchmark} under seed {seed} were made of different tables")
    first, second = (stack_predictions({key: _frame(answers) for key, answers in side.items()}) for side in sides)
    return paired_difference(  # which aligns them, or says what differs
        first, second, seed=0, resamples=RESAMPLES, equal_sets=True
    )


def _answers(
    sweep: SweepResults, row: Row, seeds: Sequence[str], benchmarks: Sequence[str]
) -> dict[tuple[str, str], RunAnswers]:
    of_row = {}
    for seed in seeds:
        for benchmark in benchmarks:
            answers = sweep.answers.answers(row.runs[seed], benchmark)
            if answers is None:
                raise InputError(f"run {row.runs[seed]} has no predictions for {benchmark}: run the sweep again")
            of_row[seed, benchmark] = answers
    return of_row


def _groups(sweep: SweepResults, answers: Mapping[tuple[str, str], RunAnswers]) -> tuple[Numbers, Numbers, Numbers]:
    """Of each answer the number of its question, of its benchmark under its seed, and of its benchmark, (n,) each.

    A question that returns under several seeds keeps its number.
    """
    key = "groups", *((benchmark, run.questions) for (_, benchmark), run in answers.items())
    if key not in sweep.memo:
        names = [f"{benchmark}/{i}" for (_, benchmark), run in answers.items() for i in run.questions.ids]
        sizes = [len(run.questions.ids) for run in answers.values()]
        _, benchmarks = np.unique([benchmark for _, benchmark in answers], return_inverse=True)
        clusters = pd.factorize(np.array(names, dtype=object))[0].astype(np.int64)
        sweep.memo[key] = clusters, np.repeat(np.arange(len(sizes)), sizes), np.repeat(benchmarks, sizes)
    stored: tuple[Numbers, Numbers, Numbers] = sweep.memo[key]
    return stored


def _frame(answers: RunAnswers) -> pd.DataFrame:
    """Columns ``id, label, prediction``; what a wrong prediction says does not matter here."""
    labels = answers.questions.labels
    predictions = [label if right else f"not {label}" for label, right in zip(labels, answers.right, strict=True)]
    return pd.DataFrame({"id": list(answers.questions.ids), "label": list(labels), "prediction": predictions})
