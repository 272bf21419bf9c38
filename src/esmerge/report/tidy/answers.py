"""Single answers: who agrees with whom, and who is right as often as sure."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from esmerge.core.methods import MethodKind
from esmerge.evaluation.metrics import BINS
from esmerge.report.load import Row, SweepResults
from esmerge.report.tidy.accuracies import main_column

SCORE = "score:"  # begins the columns of a label's log-likelihood
SHOWN = (MethodKind.REFERENCE, MethodKind.MERGE, MethodKind.ES, MethodKind.TASK_AWARE)


def agreement_table(sweep: SweepResults) -> pd.DataFrame:
    """Columns ``title, other, agreement, n``: the share of questions that two rows answer alike, for ordered pairs.

    Questions are those of the cross-modal benchmarks, and of the seeds that both rows have; an answer that could not
    be parsed agrees with nothing.
    """
    answers = {row.title: _predictions(sweep, row) for row in sweep.of_kind(*SHOWN)}
    answers = {title: series for title, series in answers.items() if len(series)}
    pairs = []
    for title, series in answers.items():
        for other, compared in answers.items():
            first, second = series.align(compared, join="inner")
            alike = float(((first == second) & (first != "")).mean()) if len(first) else np.nan
            pairs.append({"title": title, "other": other, "agreement": alike, "n": len(first)})
    return pd.DataFrame(pairs) if len(answers) > 1 else pd.DataFrame()


def calibration_table(sweep: SweepResults) -> pd.DataFrame:
    """Columns ``title, kind, confidence, accuracy, n``: the bins of every row that stored log-likelihoods."""
    parts = []
    for row in sweep.of_kind(*SHOWN):
        frames = [confidences(frame) for _, _, frame in _frames(sweep, row)]
        scored = pd.concat(frames) if frames else pd.DataFrame()
        if len(scored):
            parts.append(bins(scored).assign(title=row.title, kind=row.kind.value))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def confidences(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns ``confidence, right`` of one benchmark's predictions; rows without log-likelihoods are left out.

    The confidence is the probability of the label that was answered, of the likeliest where none could be parsed.
    """
    columns = [name for name in frame if str(name).startswith(SCORE)]
    scored = frame[frame[columns].notna().all(axis=1)] if columns else frame[:0]
    loglik = scored[columns].to_numpy(dtype=float).reshape(len(scored), len(columns))
    shares = np.exp(loglik - np.logaddexp.reduce(loglik, axis=1, keepdims=True)) if len(scored) else loglik
    labels = pd.Index([str(name).removeprefix(SCORE) for name in columns])
    at = labels.get_indexer(pd.Index(scored["prediction"].astype(str)))
    if len(scored):
        at = np.where(at < 0, shares.argmax(axis=1), at)
    right = (scored["prediction"] == scored["label"]).to_numpy()
    return pd.DataFrame({"confidence": shares[np.arange(len(scored)), at], "right": right}, index=scored.index)


def bins(scored: pd.DataFrame) -> pd.DataFrame:
    """Columns ``confidence, accuracy, n`` of the bins of the calibration error that hold answers."""
    edges = np.linspace(0, 1, BINS + 1)[1:-1]
    groups = scored.groupby(np.searchsorted(edges, scored["confidence"]))
    means = groups.agg(confidence=("confidence", "mean"), accuracy=("right", "mean"), n=("right", "size"))
    return means.reset_index(drop=True)


def _predictions(sweep: SweepResults, row: Row) -> pd.Series:
    parts = [
        pd.Series(frame["prediction"].to_numpy(), index=[f"{seed}/{benchmark}/{i}" for i in frame["id"]])
        for seed, benchmark, frame in _frames(sweep, row)
    ]
    return pd.concat(parts) if parts else pd.Series(dtype=str)


def _frames(sweep: SweepResults, row: Row) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Seed, benchmark and predictions of a row on the benchmarks of the main column."""
    column = main_column(sweep)
    for seed, run in row.runs.items():
        for benchmark in column.benchmarks if column else ():
            frame = sweep.run(run).read_predictions(benchmark)
            if frame is not None:
                yield seed, benchmark, frame
