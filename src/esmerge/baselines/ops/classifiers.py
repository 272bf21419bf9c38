"""scikit-learn's classifiers on what the entities of a question are made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

from esmerge.baselines.ops.features import design_matrices
from esmerge.baselines.ops.modalities import require_modalities
from esmerge.baselines.ops.predictions import predictions, training_answers
from esmerge.core.prompts import Benchmark

MAX_ITERATIONS = 2000  # of the solver; it ends earlier when it has converged


def fit_and_predict(
    benchmark: Benchmark, modalities: Sequence[str], classifier: ClassifierMixin, floor: str, spread: bool
) -> pd.DataFrame:
    """What a classifier, trained on the training split, predicts on the test split.

    Args:
        modalities: what it may see.
        floor: its name, for messages.
        spread: as in ``design_matrices``.

    Returns:
        One row per test example, as ``predictions`` says. A label that training lacks has probability 0.

    Raises:
        NotApplicable: the benchmark lacks a modality, or has no training split.
    """
    modalities = require_modalities(benchmark, modalities)
    answers = training_answers(benchmark, floor)
    probabilities = np.zeros((len(benchmark.test), len(benchmark.labels)))
    trained_labels = np.unique(answers)
    if len(trained_labels) == 1:  # nothing to separate
        probabilities[:, trained_labels] = 1.0
        return predictions(benchmark, probabilities)
    train, test = design_matrices(benchmark, modalities, spread)
    probabilities[:, trained_labels] = classifier.fit(train, answers).predict_proba(test)
    return predictions(benchmark, probabilities)


def linear(benchmark: Benchmark, modalities: Sequence[str], c: float = 1.0, spread: bool = False) -> pd.DataFrame:
    """Logistic regression on fingerprints, 3-mer counts and gene indicators, each feature scaled by its maximum.

    Args:
        modalities: what it may see.
        c: inverse strength of the L2 penalty.
        spread: as in ``design_matrices``.

    Returns:
        One row per test example, as ``predictions`` says.

    Raises:
        NotApplicable: the benchmark lacks a modality, or has no training split.
    """
    classifier = make_pipeline(MaxAbsScaler(), LogisticRegression(C=c, max_iter=MAX_ITERATIONS))
    return fit_and_predict(benchmark, modalities, classifier, "+".join(modalities), spread)
