"""Predictions as numbers: what every metric is worked out from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, log_softmax

from esmerge.core.errors import InputError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """Predictions as numbers. n examples, C labels.

    Attributes:
        truth: (n,) label indices.
        predicted: (n,) label indices; C where the answer could not be parsed.
        scores: (n, C), larger means likelier, comparable between examples; None where no scores were given.
        probabilities: (n, C) of the labels, adding up to one; None where no scores were given.
    """

    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    scores: Floats | None
    probabilities: Floats | None
    classes: int


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
    return Answers(truth, predicted, *_scores(predictions, labels), len(labels))


def _scores(predictions: pd.DataFrame, labels: Sequence[str]) -> tuple[Floats | None, Floats | None]:
    """Scores that rank examples, and probabilities."""
    columns = [f"score:{label}" for label in labels]
    if all(column in predictions for column in columns):
        loglik = _all_or_none(predictions, predictions[columns].to_numpy(dtype=np.float64))
    elif len(labels) == 2 and "score" in predictions:
        positive = predictions["score"].to_numpy(dtype=np.float64)
        probabilities = _all_or_none(predictions, np.column_stack([1 - positive, positive]))
        return probabilities, probabilities
    else:
        return None, None
    if loglik is None:
        return None, None
    if len(labels) == 2:  # the log-odds rank like the probability but do not saturate at 1
        scores = (loglik[:, 1] - loglik[:, 0])[:, None] * np.array([-1.0, 1.0])
        return scores, expit(scores)
    log_probabilities = log_softmax(loglik, axis=1)
    return np.round(log_probabilities, 10), np.exp(
        log_probabilities
    )  # rounded, so that equal probabilities stay ties after the arithmetic


def _all_or_none(predictions: pd.DataFrame, scores: Floats) -> Floats | None:
    """No scores at all means they were not measured; some missing means that something broke."""
    unknown = ~np.isfinite(scores).all(axis=1)
    if unknown.all() and not np.isinf(scores).any():
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
        expected = ", ".join(repr(label) for label in list(index)[:10])
        raise InputError(
            f"example {predictions['id'].iloc[row]!r}: {column} {values.iloc[row]!r} is not a label; "
            f"expected {expected}"
        )
    return np.array(mapped.tolist(), dtype=np.int64)
