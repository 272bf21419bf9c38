"""Two rows of a table on the same questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

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


def paired_rows(
    sweep: SweepResults, row: Row, other: Row, seeds: Sequence[str], benchmarks: Sequence[str]
) -> PairedDifference:
    """The answers to all questions of some benchmarks under some seeds, one row against the other.

    Raises:
        InputError: the questions are not the same.
    """
    sides = [_answers(sweep, compared, seeds, benchmarks) for compared in (row, other)]
    pairs = [(answers.questions, sides[1][key].questions) for key, answers in sides[0].items()]
    if all(a is b and a.is_unique for a, b in pairs):
        first_right, second_right = (np.concatenate([answers.right for answers in side.values()]) for side in sides)
        clusters = _clusters(sweep, sides[0])
        return signed_difference(first_right.astype(np.int64) - second_right, clusters, seed=0, resamples=RESAMPLES)
    for (seed, benchmark), answers in sides[0].items():
        checksums = {answers.questions.checksum, sides[1][seed, benchmark].questions.checksum} - {""}
        if len(checksums) > 1:
            raise InputError(f"the questions of {benchmark} under seed {seed} were made of different tables")
    first, second = (stack_predictions({key: _frame(answers) for key, answers in side.items()}) for side in sides)
    return paired_difference(first, second, seed=0, resamples=RESAMPLES)  # which aligns them, or says what differs


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


def _clusters(sweep: SweepResults, answers: Mapping[tuple[str, str], RunAnswers]) -> np.ndarray:
    """The number of each answer's question; one that returns under several seeds keeps its number."""
    key = "clusters", *((benchmark, run.questions) for (_, benchmark), run in answers.items())
    if key not in sweep.memo:
        names = [f"{benchmark}/{i}" for (_, benchmark), run in answers.items() for i in run.questions.ids]
        sweep.memo[key] = pd.factorize(np.array(names, dtype=object))[0].astype(np.int32)
    stored: np.ndarray = sweep.memo[key]
    return stored


def _frame(answers: RunAnswers) -> pd.DataFrame:
    """Columns ``id, label, prediction``; what a wrong prediction says does not matter here."""
    labels = answers.questions.labels
    predictions = [label if right else f"not {label}" for label, right in zip(labels, answers.right, strict=True)]
    return pd.DataFrame({"id": list(answers.questions.ids), "label": list(labels), "prediction": predictions})
