"""From predictions to headline numbers with 95 % bootstrap intervals.

An answer that could not be parsed (an empty ``prediction``) is wrong in every number. Point values come from
scikit-learn. The bootstrap counts how often each example is drawn, so that every metric of every resample is a product
of that count matrix with a few indicator columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.metrics import accuracy_score, f1_score, recall_score, roc_auc_score

from src.errors import InputError

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "unparsable")
CHUNK = 2_000_000  # entries of a count matrix held at once
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """Predictions as numbers. n examples, C labels.

    Attributes:
        truth: (n,) label indices.
        predicted: (n,) label indices; C where the answer could not be parsed.
        scores: (n, C), larger means likelier, comparable between examples; None where no scores were given.
    """

    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    scores: Floats | None
    classes: int


def metric_rows(
    predictions: pd.DataFrame, labels: Sequence[str], seed: int, resamples: int = 1000
) -> list[dict[str, Any]]:
    """Every metric with its interval, as rows ``metric, value, ci_low, ci_high, n``.

    Args:
        predictions: one row per example: ``id, label, prediction, score, raw_answer`` and ``score:<label>`` (a
            log-likelihood) per label.
        labels: the benchmark's labels; index 1 is the positive class of a binary set.
        seed: fixes the resamples.
        resamples: number of bootstrap resamples behind the intervals.

    Returns:
        One row per name in ``METRICS``. AUROC is NaN, and so an empty cell in a table, where the examples hold one
        class only or carry no scores.

    Raises:
        InputError: no examples, a missing column, an unknown label, or scores for only some examples.
    """
    answers = read_answers(predictions, labels)
    point = point_values(answers)
    drawn = bootstrap_values(answers, seed, resamples)
    rows = []
    for metric in METRICS:
        low, high = _percentiles(drawn[metric]) if np.isfinite(point[metric]) else (np.nan, np.nan)
        interval = {"ci_low": low, "ci_high": high, "n": len(answers.truth)}
        rows.append({"metric": metric, "value": point[metric], **interval})
    return rows


def read_answers(predictions: pd.DataFrame, labels: Sequence[str]) -> Answers:
    """Check a predictions frame and turn its texts into indices."""
    missing = [column for column in ("id", "label", "prediction") if column not in predictions]
    if missing:
        raise InputError(f"predictions lack the column(s) {', '.join(missing)}; found {', '.join(predictions.columns)}")
    if predictions.empty:
        raise InputError("predictions are empty: there is nothing to measure; check the benchmark's test split")
    index = {label: position for position, label in enumerate(labels)}
    truth = _indices(predictions, "label", index)
    predicted = _indices(predictions, "prediction", {**index, "": len(labels)})
    return Answers(truth, predicted, _scores(predictions, labels), len(labels))


def point_values(answers: Answers) -> dict[str, float]:
    """The value of every metric on all examples, by scikit-learn."""
    truth, predicted = answers.truth, answers.predicted
    present = np.unique(truth)
    seen = np.union1d(truth, predicted[predicted < answers.classes])
    return {
        "accuracy": float(accuracy_score(truth, predicted)),
        "balanced_accuracy": float(recall_score(truth, predicted, labels=present, average="macro", zero_division=0)),
        "macro_f1": float(f1_score(truth, predicted, labels=seen, average="macro", zero_division=0)),
        "auroc": _auroc(answers),
        "unparsable": float(np.mean(predicted == answers.classes)),
    }


def bootstrap_values(answers: Answers, seed: int, resamples: int) -> dict[str, Floats]:
    """Every metric on every resample, (resamples,) each; NaN where a resample leaves AUROC undefined."""
    parts = [resampled_values(answers, counts) for counts in draw_counts(len(answers.truth), seed, resamples)]
    return {metric: np.concatenate([part[metric] for part in parts]) for metric in METRICS}


def draw_counts(n: int, seed: int, resamples: int) -> Iterator[Floats]:
    """Chunks of bootstrap count matrices, (rows, n): how often each example is in each resample."""
    generator = np.random.default_rng(seed)
    step = max(1, CHUNK // n)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = generator.integers(0, n, size=(rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)


def resampled_values(answers: Answers, counts: Floats) -> dict[str, Floats]:
    """Every metric under example counts; ``counts``: (R, n). Returns (R,) per metric."""
    classes = np.arange(answers.classes)
    is_true = (answers.truth[:, None] == classes).astype(np.float64)
    is_predicted = (answers.predicted[:, None] == classes).astype(np.float64)
    support, called, hits = counts @ is_true, counts @ is_predicted, counts @ (is_true * is_predicted)
    total = counts.sum(axis=1)
    return {
        "accuracy": hits.sum(axis=1) / total,
        "balanced_accuracy": _mean_ratio(hits, support),
        "macro_f1": _mean_ratio(2 * hits, support + called),
        "auroc": _resampled_auroc(answers, counts),
        "unparsable": 1 - called.sum(axis=1) / total,
    }


def rank_auroc(scores: Floats, positive: NDArray[np.bool_], counts: Floats) -> Floats:
    """AUROC under example counts: the share of (positive, negative) pairs ranked rightly, ties counting one half.

    Args:
        scores: (n,).
        positive: (n,).
        counts: (R, n).

    Returns:
        (R,); NaN where a resample holds one class only.
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) != 0])
    up = np.where(positive, counts, 0.0)[:, order]
    down = np.where(positive, 0.0, counts)[:, order]
    if len(starts) < len(order):
        up, down = np.add.reduceat(up, starts, axis=1), np.add.reduceat(down, starts, axis=1)
    below = np.cumsum(down, axis=1) - 0.5 * down
    pairs = up.sum(axis=1) * down.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(pairs > 0, (up * below).sum(axis=1) / pairs, np.nan)


def _auroc(answers: Answers) -> float:
    if answers.scores is None:
        return float("nan")
    truth = answers.truth
    values = [roc_auc_score(truth == index, answers.scores[:, index]) for index in _ranked_classes(answers)]
    return float(np.mean(values)) if values else float("nan")


def _resampled_auroc(answers: Answers, counts: Floats) -> Floats:
    columns = _ranked_classes(answers)
    if answers.scores is None or not len(columns):
        return np.full(len(counts), np.nan)
    each = np.stack([rank_auroc(answers.scores[:, index], answers.truth == index, counts) for index in columns])
    known = np.isfinite(each)
    with np.errstate(invalid="ignore"):
        return np.where(known, each, 0.0).sum(axis=0) / np.where(known.any(axis=0), known.sum(axis=0), np.nan)


def _ranked_classes(answers: Answers) -> NDArray[Any]:
    """Classes with positives and negatives: all of them one-vs-rest, the positive one only for a binary set."""
    candidates = np.array([1]) if answers.classes == 2 else np.arange(answers.classes)
    share = np.array([np.mean(answers.truth == index) for index in candidates])
    return candidates[(share > 0) & (share < 1)]


def _scores(predictions: pd.DataFrame, labels: Sequence[str]) -> Floats | None:
    columns = [f"score:{label}" for label in labels]
    scores: Floats | None
    if all(column in predictions for column in columns):
        scores = predictions[columns].to_numpy(dtype=np.float64)
    elif len(labels) == 2 and "score" in predictions:
        probability = predictions["score"].to_numpy(dtype=np.float64)
        return _all_or_none(predictions, np.column_stack([1 - probability, probability]))
    else:
        return None
    if len(labels) == 2:  # the log-odds rank like the probability but do not saturate at 1
        return _all_or_none(predictions, (scores[:, 1] - scores[:, 0])[:, None] * np.array([-1.0, 1.0]))
    scores = _all_or_none(predictions, scores)
    # rounded, so that equal probabilities stay ties after the arithmetic
    return None if scores is None else np.round(log_softmax(scores, axis=1), 10)


def _all_or_none(predictions: pd.DataFrame, scores: Floats) -> Floats | None:
    """No scores at all means they were not measured; some missing means that something broke."""
    unknown = np.isnan(scores).any(axis=1)
    if unknown.all():
        return None
    if unknown.any():
        first = predictions["id"].iloc[int(np.flatnonzero(unknown)[0])]
        raise InputError(f"example {first!r} has no finite score but others have: expected scores for all or for none")
    return scores


def _indices(predictions: pd.DataFrame, column: str, index: dict[str, int]) -> NDArray[np.int64]:
    values = predictions[column].fillna("").astype(str)
    mapped = values.map(index)
    if mapped.isna().any():
        row = int(np.flatnonzero(mapped.isna())[0])
        known = ", ".join(repr(label) for label in list(index)[:10])
        raise InputError(
            f"example {predictions['id'].iloc[row]!r}: {column} {values.iloc[row]!r} is not a label; expected {known}"
        )
    return np.array(mapped.tolist(), dtype=np.int64)


def _mean_ratio(top: Floats, bottom: Floats) -> Floats:
    """Mean over classes of top / bottom, over the classes whose bottom is not zero; (R, C) -> (R,)."""
    occurs = bottom > 0
    ratio = np.divide(top, bottom, out=np.zeros_like(top), where=occurs)
    return ratio.sum(axis=1) / occurs.sum(axis=1)


def _percentiles(values: Floats) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)
