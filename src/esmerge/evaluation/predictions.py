"""From label log-likelihoods, or from generated texts, to a table of predictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from esmerge.core.errors import NumberError
from esmerge.core.prompts import Benchmark, Example
from esmerge.evaluation.parsing import parse_answer
from esmerge.model.scoring import Scores


def predictions_frame(benchmark: Benchmark, scores: Scores) -> pd.DataFrame:
    """One row per test example.

    Columns: ``id, label, prediction, score, raw_answer`` and ``score:<label>`` (log-likelihood) for each label.
    ``score`` is the probability, among the labels, of the positive class of a binary set, and of the predicted label
    otherwise.

    Raises:
        NumberError: a log-likelihood is NaN or infinite: the first label would win.
    """
    labels = [label.strip() for label in benchmark.labels]
    loglik = scores.loglik.numpy()
    if len(broken := np.flatnonzero(~np.isfinite(loglik).all(axis=1))):
        raise NumberError(
            f"example {benchmark.test[broken[0]].id}: log-likelihoods {loglik[broken[0]].tolist()}: expected numbers"
        )
    predicted = loglik.argmax(axis=1)
    shares = np.exp(loglik - np.logaddexp.reduce(loglik, axis=1, keepdims=True))
    column = np.ones(len(predicted), dtype=int) if len(labels) == 2 else predicted
    frame = pd.DataFrame(
        {
            **ids_and_labels(benchmark),
            "prediction": [labels[index] for index in predicted],
            "score": shares[np.arange(len(predicted)), column],
            "raw_answer": [_printable(text) for text in scores.greedy],
        }
    )
    return frame.assign(**{f"score:{label}": loglik[:, index] for index, label in enumerate(labels)})


def generated_frame(benchmark: Benchmark, texts: Sequence[str]) -> pd.DataFrame:
    """The same columns from what a model wrote to each test example.

    ``raw_answer`` is the whole text, ``prediction`` the label in it, ``""`` where none can be told. A text has no
    probability, so every score is empty.
    """
    labels = [label.strip() for label in benchmark.labels]
    parsed = [parse_answer(text, labels, _ending(example)) for text, example in zip(texts, benchmark.test, strict=True)]
    frame = pd.DataFrame(
        {
            **ids_and_labels(benchmark),
            "prediction": parsed,
            "score": np.nan,
            "raw_answer": list(map(_printable, texts)),
        }
    )
    return frame.assign(**{f"score:{label}": np.nan for label in labels})


def ids_and_labels(benchmark: Benchmark) -> dict[str, list[str]]:
    """The columns ``id`` and ``label`` of a benchmark's test examples: what says which answer is right."""
    labels = [label.strip() for label in benchmark.labels]
    return {
        "id": [example.id for example in benchmark.test],
        "label": [labels[example.answer] for example in benchmark.test],
    }


def _printable(text: str) -> str:
    """The text without bytes of zero, which a model may write and no table holds."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _ending(example: Example) -> str:
    """The text that a prompt ends with; nothing if it ends with an entity."""
    last = example.prompt[-1] if example.prompt else ""
    return last if isinstance(last, str) else ""
