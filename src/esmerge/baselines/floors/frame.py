"""What every floor shares: when it does not apply, what it learns from, and the predictions it returns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from esmerge.core.errors import InputError, NotApplicable
from esmerge.core.prompts import Benchmark

DRUG = "molecule"


class NoFloor(NotApplicable):
    """A floor does not apply to a benchmark: it lacks the modality, or there is nothing to train on."""


def modalities(benchmark: Benchmark) -> tuple[str, ...]:
    """The modalities of the benchmark's first test question, each once."""
    if not benchmark.test:
        raise InputError(f"benchmark {benchmark.name!r} has no test examples")
    return tuple(dict.fromkeys(entity.modality for entity in benchmark.test[0].entities()))


def held(benchmark: Benchmark, chosen: Sequence[str]) -> tuple[str, ...]:
    """The chosen modalities; raises ``NoFloor`` if the benchmark lacks one of them or if there is none."""
    found = modalities(benchmark)
    missing = [modality for modality in chosen if modality not in found]
    if missing or not chosen:
        raise NoFloor(
            f"benchmark {benchmark.name!r} holds {', '.join(found) or 'no entities'}: "
            f"no floor from {', '.join(missing) or 'entities'}"
        )
    return tuple(chosen)


def partners(benchmark: Benchmark, floor: str) -> tuple[str, ...]:
    """Every modality but the molecules; raises ``NoFloor`` if there is no other."""
    found = modalities(benchmark)
    others = tuple(modality for modality in found if modality != DRUG)
    if found and not others:
        raise NoFloor(f"benchmark {benchmark.name!r} has no {floor} floor: it holds molecules only")
    return held(benchmark, others)


def training_answers(benchmark: Benchmark, floor: str) -> NDArray[np.int64]:
    """Indices of the training answers, (n,); raises ``NoFloor`` without a training split."""
    if not benchmark.train:
        raise NoFloor(f"benchmark {benchmark.name!r} has no training examples: no {floor} floor")
    return np.array([example.answer for example in benchmark.train])


def predictions(benchmark: Benchmark, probabilities: NDArray[np.float64]) -> pd.DataFrame:
    """Probabilities of the labels as a predictions frame.

    Args:
        probabilities: (n, C), rows in the order of the test split.

    Returns:
        ``id, label, prediction, score, raw_answer`` and ``score:<label>`` (log-probability) per label. ``score`` is the
        probability of label 1 for two labels, that of the predicted label otherwise.
    """
    labels = np.array([label.strip() for label in benchmark.labels], dtype=object)
    best = probabilities.argmax(axis=1)
    binary = len(labels) == 2
    frame = pd.DataFrame({"id": [example.id for example in benchmark.test]})
    frame["label"] = labels[[example.answer for example in benchmark.test]]
    frame["prediction"] = labels[best]
    frame["score"] = probabilities[:, 1] if binary else probabilities[np.arange(len(best)), best]
    frame["raw_answer"] = frame["prediction"]
    floor = np.finfo(np.float64).tiny  # keeps the log of an impossible label finite
    logs = np.log(np.maximum(probabilities, floor))
    return frame.assign(**{f"score:{label}": logs[:, column] for column, label in enumerate(labels)})
