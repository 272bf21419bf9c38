"""From label log-likelihoods to a table of predictions."""

from __future__ import annotations

import numpy as np
import pandas as pd

from src.evaluation.scoring import Scores
from src.specialists.pieces import Benchmark


def predictions_frame(benchmark: Benchmark, scores: Scores) -> pd.DataFrame:
    """One row per test example.

    Columns: ``id, label, prediction, score, raw_answer`` and ``score:<label>`` (log-likelihood) for each label.
    ``score`` is the probability, among the labels, of the positive class of a binary set, and of the predicted label
    otherwise.
    """
    labels = [label.strip() for label in benchmark.labels]
    loglik = scores.loglik.numpy()
    chosen = loglik.argmax(axis=1)
    shares = np.exp(loglik - np.logaddexp.reduce(loglik, axis=1, keepdims=True))
    column = np.ones(len(chosen), dtype=int) if len(labels) == 2 else chosen
    frame = pd.DataFrame(
        {
            "id": [example.id for example in benchmark.test],
            "label": [labels[example.answer] for example in benchmark.test],
            "prediction": [labels[index] for index in chosen],
            "score": shares[np.arange(len(chosen)), column],
            "raw_answer": scores.greedy,
        }
    )
    return frame.assign(**{f"score:{label}": loglik[:, index] for index, label in enumerate(labels)})
