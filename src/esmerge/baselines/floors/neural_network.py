"""The classical ceiling: a small neural network over all that the entities are made of, which can find interactions.

It is a floor like the others where it learns from the few examples that they have. With every label of the training
side (a panel's ``training=every train_limit=null``) it says what can be had without a language model.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler

from esmerge.baselines.api import FLOORS
from esmerge.baselines.ops.classifiers import fit_and_predict
from esmerge.baselines.ops.modalities import modalities
from esmerge.core.methods import MethodKind, ReferenceInfo
from esmerge.core.prompts import Benchmark
from esmerge.core.rng import generator
from esmerge.core.validation import above_zero, at_least

BATCH = 256  # examples of a step, at most


@dataclass(frozen=True)
class NeuralNetworkSettings:
    """Settings of the network.

    Attributes:
        width: units of its hidden layer.
        epochs: passes over the training split.
        learning_rate: of Adam.
        weight_decay: of the L2 penalty.
    """

    width: int = 256
    epochs: int = 10
    learning_rate: float = 0.001
    weight_decay: float = 0.0001

    def __post_init__(self) -> None:
        at_least(self, "method", 1, "width", "epochs")
        above_zero(self, "method", "learning_rate")
        at_least(self, "method", 0, "weight_decay")


@FLOORS.register("neural_network", NeuralNetworkSettings, ReferenceInfo("Neural network", MethodKind.FLOOR, rank=7))
def neural_network(settings: NeuralNetworkSettings, benchmark: Benchmark, seed: int) -> pd.DataFrame:
    """One hidden layer on fingerprints, protein 3-mers and genes of the training split; its start follows the seed.

    Raises:
        NotApplicable: the benchmark holds no entities, or has no training split.
    """
    network = MLPClassifier(
        (settings.width,),
        alpha=settings.weight_decay,
        learning_rate_init=settings.learning_rate,
        batch_size=min(BATCH, max(1, len(benchmark.train))),
        max_iter=settings.epochs,
        random_state=int(generator(seed, f"neural_network-{benchmark.name}").integers(2**31)),
    )
    classifier = make_pipeline(MaxAbsScaler(), FunctionTransformer(_single_precision, accept_sparse=True), network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of passes is what was asked for
        return fit_and_predict(benchmark, modalities(benchmark), classifier, "neural_network", spread=True)


def _single_precision(features: np.ndarray) -> np.ndarray:
    """The features in the precision in which networks are trained."""
    return features.astype(np.float32)
