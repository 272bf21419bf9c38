"""What every floor learns from, the training answers, and what it returns, a table of predictions."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from esmerge.core.errors import NotApplicable
from esmerge.core.prompts import Benchmark


def training_answers(benchmark: Benchmark, floor: str) -> NDArray[np.int64]:
    """Indices of the training answers, (n,); raises ``NotApplicable``, naming the floor, without a training split."""
    if not benchmark.train:
        raise NotApplicable(f"benchmark {benchmark.name!r} has no training examples: no {floor} floor")
    return np.array([example.answer for example in benchmark.train])


def predictions(benchmark: Benchmark, probabilities: NDArray[np.float64]) -> pd.DataFrame:
    """Probabilities of the labels as a table of predictions.

    Args:
        probabilities: (n, C), rows in the order of the test split.

    Returns:
        ``id, label, prediction, score, raw_answer`` and ``score:<label>`` (log-probability) per label. ``score`` is the
        probability of label 1 for two labels, that of the predicted label otherwise.
    """
    labels = np.array([label.strip() for label in benchmark.labels], dtype=object)
    best = probabilities.argmax(axis=1)
    scored = np.ones_like(best) if len(labels) == 2 else best
    table = pd.DataFrame({"id": [example.id for example in benchmark.test]})
    table["label"] = labels[[example.answer for example in benchmark.test]]
    table["prediction"] = labels[best]
    table["score"] = probabilities[np.arange(len(best)), scored]
    table["raw_answer"] = table["prediction"]
    tiny = np.finfo(np.float64).tiny  # keeps the log of an impossible label finite
    logs = np.log(np.maximum(probabilities, tiny))
    return table.assign(**{f"score:{label}": logs[:, column] for column, label in enumerate(labels)})
