"""Floors: what can be had without any language model, from the training split alone.

A merge that does not beat the drug-only floor has learnt nothing about the interaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

from src.errors import InputError, NotApplicable
from src.specialists.pieces import Benchmark, Example
from src.tasks.chemistry import BITS, fingerprint_bits

DRUG = "molecule"
# How a modality becomes words: amino acids as overlapping triples, genes as they are.
WORDS: dict[str, dict[str, Any]] = {
    "protein": {"analyzer": "char", "ngram_range": (3, 3), "lowercase": False},
    "cell": {"token_pattern": r"\S+", "lowercase": False},
}


class NoFloor(NotApplicable):
    """A floor does not apply to a benchmark: it lacks the modality, or there is nothing to train on."""


def majority(benchmark: Benchmark) -> pd.DataFrame:
    """Always the commonest training label; its scores are the labels' (add-one smoothed) training frequencies.

    Raises:
        NoFloor: the benchmark has no training split.
    """
    counts = np.bincount(_answers(benchmark, "majority"), minlength=len(benchmark.labels)) + 1
    probabilities = np.tile(counts / counts.sum(), (len(benchmark.test), 1))
    return predictions(benchmark, probabilities)


def single_modality(benchmark: Benchmark, modality: str) -> pd.DataFrame:
    """Logistic regression that sees one modality: see ``linear``."""
    return linear(benchmark, (modality,))


def drug_only(benchmark: Benchmark) -> pd.DataFrame:
    """Logistic regression that sees the molecules only."""
    return single_modality(benchmark, DRUG)


def partner_only(benchmark: Benchmark) -> pd.DataFrame:
    """Logistic regression that sees everything but the molecules."""
    partners = [modality for modality in modalities(benchmark) if modality != DRUG]
    if not partners:
        raise NoFloor(f"benchmark {benchmark.name!r} has no partner_only floor: it holds molecules only")
    return linear(benchmark, partners)


def linear(benchmark: Benchmark, chosen: Sequence[str]) -> pd.DataFrame:
    """Logistic regression on Morgan fingerprints, protein 3-mer counts and gene indicators.

    Several entities of one modality are added up, so that their order does not matter.

    Args:
        chosen: the modalities it may see.

    Returns:
        One row per test example, as ``predictions`` says.

    Raises:
        NoFloor: the benchmark lacks a modality, or has no training split.
    """
    missing = [modality for modality in chosen if modality not in modalities(benchmark)]
    if missing:
        raise NoFloor(
            f"benchmark {benchmark.name!r} holds {', '.join(modalities(benchmark)) or 'no entities'}: "
            f"no floor from {', '.join(missing)}"
        )
    answers = _answers(benchmark, "+".join(chosen))
    features = zip(*(_features(benchmark, modality) for modality in chosen), strict=True)
    train, test = (hstack(parts).tocsr() for parts in features)
    probabilities = np.zeros((len(benchmark.test), len(benchmark.labels)))
    seen = np.unique(answers)
    if len(seen) == 1:  # nothing to separate
        probabilities[:, seen] = 1.0
        return predictions(benchmark, probabilities)
    model = make_pipeline(MaxAbsScaler(), LogisticRegression(max_iter=2000)).fit(train, answers)
    probabilities[:, seen] = model.predict_proba(test)
    return predictions(benchmark, probabilities)


def predictions(benchmark: Benchmark, probabilities: NDArray[np.float64]) -> pd.DataFrame:
    """Probabilities of the labels as a predictions frame.

    Args:
        probabilities: (n, C), rows in the order of the test split.

    Returns:
        ``id, label, prediction, score, raw_answer`` and ``score:<label>`` (log-probability) per label. ``score`` is the
        probability of label 1 for two labels, that of the predicted label otherwise.
    """
    labels = np.array(benchmark.labels, dtype=object)
    best = probabilities.argmax(axis=1)
    binary = len(labels) == 2
    frame = pd.DataFrame({"id": [example.id for example in benchmark.test]})
    frame["label"] = labels[[example.answer for example in benchmark.test]]
    frame["prediction"] = labels[best]
    frame["score"] = probabilities[:, 1] if binary else probabilities[np.arange(len(best)), best]
    frame["raw_answer"] = frame["prediction"]
    floor = np.finfo(np.float64).tiny  # keeps the log of an impossible label finite
    for column, label in enumerate(labels):
        frame[f"score:{label}"] = np.log(np.maximum(probabilities[:, column], floor))
    return frame


def modalities(benchmark: Benchmark) -> tuple[str, ...]:
    """The modalities of the benchmark's first test question, each once."""
    if not benchmark.test:
        raise InputError(f"benchmark {benchmark.name!r} has no test examples")
    return tuple(dict.fromkeys(entity.modality for entity in benchmark.test[0].entities()))


def _answers(benchmark: Benchmark, floor: str) -> NDArray[np.int64]:
    if not benchmark.train:
        raise NoFloor(f"benchmark {benchmark.name!r} has no training examples: no {floor} floor")
    return np.array([example.answer for example in benchmark.train])


def _features(benchmark: Benchmark, modality: str) -> tuple[csr_matrix, csr_matrix]:
    """Features of the training and the test split, (n, F) each."""
    if modality == DRUG:
        return _fingerprints(benchmark.train), _fingerprints(benchmark.test)
    vectorizer = CountVectorizer(**WORDS.get(modality, WORDS["cell"]))
    train = vectorizer.fit_transform([_text(example, modality) for example in benchmark.train])
    return train, vectorizer.transform([_text(example, modality) for example in benchmark.test])


def _fingerprints(examples: Sequence[Example]) -> csr_matrix:
    """Summed Morgan fingerprints of each example's molecules, (n, BITS)."""
    bits = [[bit for e in example.entities(DRUG) for bit in fingerprint_bits(e.value)] for example in examples]
    ends, columns = np.cumsum([0, *map(len, bits)]), np.array([bit for row in bits for bit in row], dtype=np.int64)
    return csr_matrix((np.ones(len(columns)), columns, ends), shape=(len(examples), BITS))


def _text(example: Example, modality: str) -> str:
    """The values of one modality, separated by blanks."""
    return " ".join(entity.value for entity in example.entities(modality))


FLOORS: dict[str, Callable[[Benchmark], pd.DataFrame]] = {
    "majority": majority,
    "drug_only": drug_only,
    "partner_only": partner_only,
}
