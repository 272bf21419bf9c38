"""The floor that may find which drug goes with which partner: trees over all that the entities are made of."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from sklearn.ensemble import RandomForestClassifier

from esmerge.baselines.api import FLOORS
from esmerge.baselines.ops.classifiers import fit_and_predict
from esmerge.baselines.ops.modalities import modalities
from esmerge.core.methods import MethodKind, ReferenceInfo
from esmerge.core.prompts import Benchmark
from esmerge.core.rng import generator
from esmerge.core.validation import at_least


@dataclass(frozen=True)
class RandomForestSettings:
    """Settings of the forest.

    Attributes:
        trees: their number.
        min_leaf: training examples in a leaf at least.
    """

    trees: int = 300
    min_leaf: int = 1

    def __post_init__(self) -> None:
        at_least(self, "method", 1, "trees", "min_leaf")


@FLOORS.register("random_forest", RandomForestSettings, ReferenceInfo("Random forest", MethodKind.FLOOR, rank=6))
def random_forest(settings: RandomForestSettings, benchmark: Benchmark, seed: int) -> pd.DataFrame:
    """A random forest on fingerprints, protein 3-mers and genes of the training split; the trees follow the seed.

    Raises:
        NotApplicable: the benchmark holds no entities, or has no training split.
    """
    tree_seed = int(generator(seed, f"random_forest-{benchmark.name}").integers(2**31))
    forest = RandomForestClassifier(settings.trees, min_samples_leaf=settings.min_leaf, random_state=tree_seed)
    return fit_and_predict(benchmark, modalities(benchmark), forest, "random_forest", spread=True)
