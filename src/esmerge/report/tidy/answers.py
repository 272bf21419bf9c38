"""Single answers: who agrees with whom, and who is right as often as sure."""

from __future__ import annotations

from itertools import combinations_with_replacement, product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from esmerge.core.methods import MethodKind
from esmerge.evaluation.metrics import BINS
from esmerge.report.load import Row, SweepResults
from esmerge.report.stored_answers import AskedQuestions, RunAnswers
from esmerge.report.tidy.accuracies import best_rows, main_column

SHOWN = (MethodKind.REFERENCE, MethodKind.MERGE, MethodKind.ES, MethodKind.TASK_AWARE)
MOST_AGREEING, MOST_CALIBRATED = 16, 16  # methods in a figure, the best: more of them nobody can read


def agreement_table(sweep: SweepResults) -> pd.DataFrame:
    """Columns ``title, other, agreement, n``: the share of questions that two rows answer alike, for ordered pairs.

    Questions are those of the cross-modal benchmarks, and of the seeds that both rows have; an answer that could not
    be parsed agrees with nothing. Of many rows, the best.
    """
    answers = {row.title: of_row for row in best_shown(sweep, MOST_AGREEING) if (of_row := _answers(sweep, row))}
    shares: dict[tuple[str, str], tuple[float, int]] = {}
    for (title, first), (other, second) in combinations_with_replacement(answers.items(), 2):
        counts = [_alike(first[key], second[key]) for key in first if key in second]
        alike, n = (sum(numbers) for numbers in zip(*counts, strict=True)) if counts else (0, 0)
        shares[title, other] = shares[other, title] = (alike / n if n else np.nan, n)
    pairs = [
        {"title": title, "other": other, "agreement": shares[title, other][0], "n": shares[title, other][1]}
        for title, other in product(answers, repeat=2)
    ]
    return pd.DataFrame(pairs) if len(answers) > 1 else pd.DataFrame()


def calibration_table(sweep: SweepResults) -> pd.DataFrame:
    """Columns ``title, kind, confidence, accuracy, n``: the bins of every row that stored log-likelihoods.

    Of many rows, the best.
    """
    parts = []
    for row in best_shown(sweep, MOST_CALIBRATED):
        frames = [scored(answers) for answers in _answers(sweep, row).values()]
        frame = pd.concat(frames) if frames else pd.DataFrame()
        if len(frame):
            parts.append(bins(frame).assign(title=row.title, kind=row.kind.value))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def best_shown(sweep: SweepResults, most: int) -> list[Row]:
    """The rows of references and merges that figures of answers show: of many, the most accurate."""
    return best_rows(sweep, sweep.of_kind(*SHOWN), most)


def left_out(sweep: SweepResults, most: int) -> str:
    """What a figure of answers leaves out, as a sentence; empty where nothing."""
    rows = len(sweep.of_kind(*SHOWN))
    return f" The {most} most accurate of {rows} methods." if rows > most else ""


def scored(answers: RunAnswers) -> pd.DataFrame:
    """Columns ``confidence, right`` of one benchmark's answers; those without log-likelihoods are left out."""
    has_confidence = ~np.isnan(answers.confidence)
    return pd.DataFrame({"confidence": answers.confidence[has_confidence], "right": answers.right[has_confidence]})


def bins(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns ``confidence, accuracy, n`` of the bins of the calibration error that hold answers."""
    edges = np.linspace(0, 1, BINS + 1)[1:-1]
    groups = frame.groupby(np.searchsorted(edges, frame["confidence"]))
    means = groups.agg(confidence=("confidence", "mean"), accuracy=("right", "mean"), n=("right", "size"))
    return means.reset_index(drop=True)


def _alike(first: RunAnswers, second: RunAnswers) -> tuple[int, int]:
    """How many questions two runs answer alike, and how many both were asked."""
    a, b = first.predictions, second.predictions
    if first.questions is not second.questions:
        positions = _positions(second.questions)
        shared = [(i, positions[name]) for i, name in enumerate(first.questions.ids) if name in positions]
        a, b = (_taken(numbers, [pair[side] for pair in shared]) for side, numbers in enumerate((a, b)))
    return int(((a == b) & (a != 0)).sum()), len(a)


def _taken(numbers: NDArray[np.int32], indices: list[int]) -> NDArray[np.int32]:
    return numbers[np.array(indices, dtype=np.int64)]


def _positions(questions: AskedQuestions) -> dict[str, int]:
    return {name: index for index, name in enumerate(questions.ids)}


def _answers(sweep: SweepResults, row: Row) -> dict[tuple[str, str], RunAnswers]:
    """A row's answers on the benchmarks of the main column."""
    column = main_column(sweep)
    keys = [(seed, run, name) for seed, run in row.runs.items() for name in (column.benchmarks if column else ())]
    return {
        (seed, benchmark): answers
        for seed, run, benchmark in keys
        if (answers := sweep.answers.answers(run, benchmark)) is not None
    }
