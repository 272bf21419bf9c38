"""What makes an accuracy say less than it seems to: refused rows, questions of one answer, methods of one answer."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from esmerge.report.load import Row, SweepResults
from esmerge.report.statistics import Column

NEARLY_ALL = 0.98  # share of the questions from which on a method is said to give one answer
MARGIN = 0.05  # by which it must exceed that answer's share of the truth


def refused_rows(sweep: SweepResults) -> list[str]:
    """One sentence that counts the rows nobody was asked about; none where there are no such rows."""
    counts = [
        f"{benchmark.title} {_between(benchmark.fewest_rejects, benchmark.rejects)}"
        for benchmark in sweep.benchmarks
        if benchmark.rejects
    ]
    if not counts:
        return []
    return [f"Rows that were refused, so that nobody was asked: {', '.join(counts)}; rejects/ says why."]


def _between(fewest: int, most: int) -> str:
    return str(most) if fewest == most else f"{fewest} to {most} by seed or settings"


def one_answer_questions(sweep: SweepResults) -> list[str]:
    """A sentence for each benchmark all of whose questions have the same right answer."""
    sentences = []
    for benchmark in sweep.benchmarks:
        runs = [run for row in sweep.rows for run in row.runs.values()]
        answers = next(
            (run_answers for run in runs if (run_answers := sweep.answers.answers(run, benchmark.name))), None
        )
        labels = () if answers is None else answers.questions.labels
        if len(set(labels)) == 1:
            sentences.append(
                f"Mind that the right answer to all {len(labels)} questions of {benchmark.title} is {labels[0]!r}: "
                "whoever always says so is right, and its accuracy tells nothing."
            )
    return sentences


def one_sided_methods(sweep: SweepResults, rows: Iterable[Row], column: Column) -> list[str]:
    """A sentence for each of some rows that gives nearly one answer to a benchmark whose questions have several."""
    sentences = []
    titles = {benchmark.name: benchmark.title for benchmark in sweep.benchmarks}
    for row in rows:
        for benchmark in column.benchmarks:
            answer = _one_answer(sweep, row, benchmark)
            if answer:
                sentences.append(f"Mind that {row.title} answers {answer} of {titles[benchmark]}.")
    return sentences


def _one_answer(sweep: SweepResults, row: Row, benchmark: str) -> str:
    """The answer that a row gives to nearly all questions, over its seeds, and to how many; empty if it has several."""
    run_answers = [
        a for run in row.runs.values() if (a := sweep.answers.answers(run, benchmark)) and len(a.predictions)
    ]
    if not run_answers:
        return ""
    predictions = np.concatenate([answers.predictions for answers in run_answers])
    labels = np.concatenate([np.array(answers.questions.labels, dtype=object) for answers in run_answers])
    number = int(np.bincount(predictions).argmax())
    text, share = sweep.answers.text(number), float((predictions == number).mean())
    if share < NEARLY_ALL or share < float((labels == text).mean()) + MARGIN or len(set(labels)) == 1:
        return ""
    answer = repr(text) if text else "nothing that can be parsed"
    return f"{answer} to {'all' if share == 1 else f'{100 * share:.1f} % of the'} {len(predictions)} questions"
