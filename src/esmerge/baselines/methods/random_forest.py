"""The floor that may find which drug goes with which partner: trees over all that the entities are made of."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from esmerge.baselines import floors
from esmerge.baselines.api import REFERENCES, ReferenceModel
from esmerge.core.methods import MethodKind, ReferenceInfo
from esmerge.core.prompts import Benchmark
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


@REFERENCES.register("random_forest", RandomForestSettings, ReferenceInfo("Random forest", MethodKind.FLOOR))
def random_forest(settings: RandomForestSettings, session: ReferenceModel, benchmark: Benchmark) -> pd.DataFrame:
    """A random forest on fingerprints, protein 3-mers and genes of the training split; the trees follow the seed."""
    return floors.random_forest(benchmark, session.sweep.seed, settings.trees, settings.min_leaf)
