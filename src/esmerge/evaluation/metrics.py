"""From predictions to headline numbers with 95 % intervals: Wilson's of shares of answers, the bootstrap's of the rest.

An answer that could not be parsed (an empty ``prediction``) is wrong in every number but those named ``…_parsed``,
which leave it out, as the paper does. Metrics are defined as in scikit-learn and computed for many samples at once,
from how often each sample holds each example and a few indicator columns. All examples once are one such sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd

from esmerge.evaluation.answers import Answers, Floats, read_answers
from esmerge.evaluation.intervals import wilson
from esmerge.evaluation.ranking import resampled_areas

METRICS = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "auroc",
    "unparsable",
    "auprc",
    "mcc",
    "ece",
    "accuracy_parsed",
    "macro_f1_parsed",
)
BINS = 15  # of the calibration error, equally wide
ENTRIES = 2_000_000  # of a count matrix that are held at once


def metric_rows(
    predictions: pd.DataFrame, labels: Sequence[str], seed: int, resamples: int = 1000
) -> list[dict[str, str | float]]:
    """Every metric with its interval, as rows ``metric, value, ci_low, ci_high, n``.

    Args:
        predictions: one row per example: ``id, label, prediction, score, raw_answer`` and ``score:<label>`` (a
            log-likelihood) per label.
        labels: the benchmark's labels; index 1 is the positive class of a binary set.
        seed: fixes the resamples.
        resamples: number of bootstrap resamples behind the intervals of metrics that are no shares of answers.

    Returns:
        One row per name in ``METRICS``. Intervals of accuracies and of the share that could not be parsed are Wilson's,
        which hold near 0 and 1 as well, where resamples hardly differ. A number that is not defined is NaN, and so an
        empty cell in a table: the areas where the examples hold one class only; areas and calibration error without
        scores; the ``…_parsed`` ones where no answer could be parsed.

    Raises:
        InputError: no examples, a missing column, an unknown label, or scores for only some examples.
    """
    answers = read_answers(predictions, labels)
    point = point_values(answers)
    resampled, shares = bootstrap_values(answers, seed, resamples), share_intervals(answers)
    parsed = int((answers.predicted < answers.classes).sum())
    rows: list[dict[str, str | float]] = []
    for metric in METRICS:
        interval = shares[metric] if metric in shares else _percentiles(resampled[metric])
        low, high = interval if np.isfinite(point[metric]) else (np.nan, np.nan)
        n = parsed if metric.endswith("_parsed") else len(answers.truth)
        rows.append({"metric": metric, "value": point[metric], "ci_low": low, "ci_high": high, "n": n})
    return rows


def point_values(answers: Answers) -> dict[str, float]:
    """The value of every metric on all examples: those of the sample in which each was drawn once."""
    values = resampled_values(answers, np.ones((1, len(answers.truth))))
    return {metric: float(values[metric][0]) for metric in METRICS}


def share_intervals(answers: Answers) -> dict[str, tuple[float, float]]:
    """Wilson's interval of every metric that is a share of answers; those of parsed ones only where there are any."""
    n, right = len(answers.truth), int((answers.predicted == answers.truth).sum())
    parsed = int((answers.predicted < answers.classes).sum())
    shares = {"accuracy": (right, n), "unparsable": (n - parsed, n), "accuracy_parsed": (right, parsed)}
    return {metric: wilson(count, total) for metric, (count, total) in shares.items() if total}


def bootstrap_values(answers: Answers, seed: int, resamples: int, entries: int = ENTRIES) -> dict[str, Floats]:
    """Every metric on every resample, (resamples,) each; NaN where a resample leaves one undefined.

    Args:
        entries: of a count matrix that are held at once.
    """
    n = len(answers.truth)
    small = n * resamples <= entries
    draws = [_one_chunk(n, seed, resamples)] if small else draw_counts(n, seed, resamples, entries)
    parts = [resampled_values(answers, counts) for counts in draws]
    return {metric: np.concatenate([part[metric] for part in parts]) for metric in METRICS}


@lru_cache(maxsize=2)  # benchmarks of a suite are often of one size, and every run needs the counts of each
def _one_chunk(n: int, seed: int, resamples: int) -> Floats:
    (counts,) = draw_counts(n, seed, resamples, entries=n * resamples)
    counts.flags.writeable = False
    return counts


def draw_counts(n: int, seed: int, resamples: int, entries: int = ENTRIES) -> Iterator[Floats]:
    """Chunks of bootstrap count matrices, (rows, n): how often each example is in each resample.

    Args:
        entries: at most so many are in a chunk of more than one row.
    """
    generator = np.random.default_rng(seed)
    step = max(1, entries // n)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        indices = generator.integers(0, n, size=(rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(indices.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)


def resampled_values(answers: Answers, counts: Floats) -> dict[str, Floats]:
    """Every metric under example counts; ``counts``: (R, n). Returns (R,) per metric."""
    classes = np.arange(answers.classes)
    is_true = (answers.truth[:, None] == classes).astype(np.float64)
    is_predicted = (answers.predicted[:, None] == classes).astype(np.float64)
    is_parsed = is_predicted.sum(axis=1, keepdims=True)
    columns = np.hstack([is_true, is_predicted, is_true * is_predicted, is_true * is_parsed])
    support, called, hits, parsed_support = np.split(counts @ columns, 4, axis=1)
    total = counts.sum(axis=1)
    return {
        "accuracy": hits.sum(axis=1) / total,
        "balanced_accuracy": _mean_ratio(hits, support),
        "macro_f1": _mean_ratio(2 * hits, support + called),
        "unparsable": 1 - called.sum(axis=1) / total,
        "mcc": _correlation(hits, support, called, total),
        "ece": _calibration_error(answers, counts),
        "accuracy_parsed": _ratio(hits.sum(axis=1), called.sum(axis=1)),
        "macro_f1_parsed": _mean_ratio(2 * hits, parsed_support + called),
        **resampled_areas(answers, counts),
    }


def _correlation(hits: Floats, support: Floats, called: Floats, total: Floats) -> Floats:
    """Matthews' correlation with "unparsable" as one more answer; 0 where truth or answers are all alike.

    Args:
        hits, support, called: (R, C) how often each label is predicted rightly, is true, and is predicted.
        total: (R,).
    """
    lost = total - called.sum(axis=1)
    covariance = hits.sum(axis=1) * total - (support * called).sum(axis=1)
    truths = total**2 - (support**2).sum(axis=1)
    answered = total**2 - (called**2).sum(axis=1) - lost**2
    scale = np.sqrt(truths * answered)
    coefficients: Floats = np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 0)
    return coefficients


def _calibration_error(answers: Answers, counts: Floats) -> Floats:
    """Expected calibration error, (R, n) -> (R,): mean over examples of |accuracy - confidence| of the example's bin.

    An example's confidence is the probability of the label it was answered with; that of the likeliest one where the
    answer could not be parsed.
    """
    if answers.probabilities is None:
        return np.full(len(counts), np.nan)
    rows, likeliest = np.arange(len(answers.truth)), answers.probabilities.argmax(axis=1)
    answered = np.where(answers.predicted < answers.classes, answers.predicted, likeliest)
    confidence = answers.probabilities[rows, answered]
    bins = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence)
    gaps = np.zeros((len(rows), BINS))
    gaps[rows, bins] = (answers.predicted == answers.truth) - confidence
    errors: Floats = np.abs(counts @ gaps).sum(axis=1) / counts.sum(axis=1)
    return errors


def _mean_ratio(top: Floats, bottom: Floats) -> Floats:
    """Mean over classes of top / bottom, over the classes whose bottom is not zero; (R, C) -> (R,)."""
    ratio = np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
    return _ratio(ratio.sum(axis=1), (bottom > 0).sum(axis=1).astype(np.float64))


def _ratio(top: Floats, bottom: Floats) -> Floats:
    """top / bottom, NaN where the bottom is zero; (R,)."""
    return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)


def _percentiles(values: Floats) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)
