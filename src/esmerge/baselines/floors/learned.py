"""Floors that learn: scikit-learn's classifiers on what the entities are made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

from esmerge.baselines.floors.features import design
from esmerge.baselines.floors.frame import DRUG, held, modalities, partners, predictions, training_answers
from esmerge.core.prompts import Benchmark
from esmerge.core.rng import generator

ROUNDS = 2000  # of the solver at most; it ends earlier when it has converged
TREES = 300


def single_modality(benchmark: Benchmark, modality: str) -> pd.DataFrame:
    """Logistic regression that sees one modality: see ``linear``."""
    return linear(benchmark, (modality,))


def drug_only(benchmark: Benchmark) -> pd.DataFrame:
    """Logistic regression that sees the molecules only."""
    return single_modality(benchmark, DRUG)


def partner_only(benchmark: Benchmark) -> pd.DataFrame:
    """Logistic regression that sees everything but the molecules."""
    return linear(benchmark, partners(benchmark, "partner_only"))


def linear(benchmark: Benchmark, chosen: Sequence[str], c: float = 1.0, spread: bool = False) -> pd.DataFrame:
    """Logistic regression on fingerprints, 3-mer counts and gene indicators, each feature scaled by its maximum.

    Args:
        chosen: the modalities it may see.
        c: inverse strength of the L2 penalty.
        spread: as in ``design``.

    Returns:
        One row per test example, as ``predictions`` says.

    Raises:
        NoFloor: the benchmark lacks a modality, or has no training split.
    """
    model = make_pipeline(MaxAbsScaler(), LogisticRegression(C=c, max_iter=ROUNDS))
    return learned(benchmark, chosen, model, "+".join(chosen), spread)


def logistic_regression(benchmark: Benchmark, c: float = 1.0) -> pd.DataFrame:
    """Logistic regression that sees every entity: what drug and partner tell, each for itself. See ``linear``."""
    return linear(benchmark, modalities(benchmark), c, spread=True)


def random_forest(benchmark: Benchmark, seed: int = 0, trees: int = TREES, min_leaf: int = 1) -> pd.DataFrame:
    """Random forest that sees every entity, so that it may find which drug goes with which partner.

    Args:
        seed: fixes the trees.
        trees: their number.
        min_leaf: training examples in a leaf at least.

    Returns:
        One row per test example, as ``predictions`` says.

    Raises:
        NoFloor: the benchmark holds no entities, or has no training split.
    """
    draw = int(generator(seed, f"random_forest-{benchmark.name}").integers(2**31))
    model = RandomForestClassifier(trees, min_samples_leaf=min_leaf, random_state=draw)
    return learned(benchmark, modalities(benchmark), model, "random_forest", spread=True)


def learned(
    benchmark: Benchmark, chosen: Sequence[str], model: ClassifierMixin, floor: str, spread: bool
) -> pd.DataFrame:
    """What a scikit-learn classifier, trained on the training split, predicts on the test split.

    Raises:
        NoFloor: the benchmark lacks a modality, or has no training split.
    """
    chosen = held(benchmark, chosen)
    answers = training_answers(benchmark, floor)
    probabilities = np.zeros((len(benchmark.test), len(benchmark.labels)))
    seen = np.unique(answers)
    if len(seen) == 1:  # nothing to separate
        probabilities[:, seen] = 1.0
        return predictions(benchmark, probabilities)
    train, test = design(benchmark, chosen, spread)
    probabilities[:, seen] = model.fit(train, answers).predict_proba(test)
    return predictions(benchmark, probabilities)
