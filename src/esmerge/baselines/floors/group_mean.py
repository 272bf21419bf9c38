"""The floor that only remembers: the training answers of the same drug, protein or cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from esmerge.baselines.api import FLOORS
from esmerge.baselines.ops.incidence import entity_columns, entity_incidence
from esmerge.baselines.ops.modalities import DRUG, modalities, partner_modalities, require_modalities
from esmerge.baselines.ops.predictions import predictions, training_answers
from esmerge.core.errors import ConfigError
from esmerge.core.methods import MethodKind, ReferenceInfo
from esmerge.core.prompts import Benchmark
from esmerge.core.validation import at_least

GROUPS = (DRUG, "partner", "both")


@dataclass(frozen=True)
class GroupMeanSettings:
    """Settings of the means.

    Attributes:
        of: the entities that count: ``molecule``, ``partner`` (all others) or ``both``, each that the question holds.
        prior: weight of the overall share, in examples; 0 for bare means.
    """

    of: str = "both"
    prior: float = 1.0

    def __post_init__(self) -> None:
        at_least(self, "method", 0, "prior")
        if self.of not in GROUPS:
            raise ConfigError(f"method.of={self.of!r}: expected one of {', '.join(GROUPS)}")


@FLOORS.register("group_mean", GroupMeanSettings, ReferenceInfo("Group mean", MethodKind.FLOOR, rank=2))
def group_mean(settings: GroupMeanSettings, benchmark: Benchmark, seed: int) -> pd.DataFrame:
    """The training answers of the same drug, protein or cell, with no look at what they are made of.

    The share of a label is its share in training, plus the departures of the question's entities. Shares below 0 become
    0, and the rest is scaled to 1. An entity that training does not hold departs by nothing.

    Raises:
        NotApplicable: the benchmark lacks these entities, or has no training split.
    """
    grouped = _grouped_modalities(benchmark, settings.of)
    answers = np.eye(len(benchmark.labels))[training_answers(benchmark, "group_mean")]
    columns = entity_columns(benchmark.train, grouped)
    train, test = (entity_incidence(split, grouped, columns) for split in (benchmark.train, benchmark.test))
    shares = np.maximum(answers.mean(axis=0) + test @ departures(train, answers, settings.prior), 0.0)
    return predictions(benchmark, shares / shares.sum(axis=1, keepdims=True))


def departures(incidence: csr_matrix, answers: NDArray[np.float64], prior: float) -> NDArray[np.float64]:
    """How far a label's share among the examples of an entity departs from its share s among all of them.

    (count + prior * s) / (examples + prior) - s.

    Args:
        incidence: which example holds which entity, (n, entities).
        answers: one-hot, (n, C).
        prior: weight of the overall share, in examples.

    Returns:
        (entities, C).
    """
    overall = answers.mean(axis=0)
    examples = np.asarray(incidence.sum(axis=0)).reshape(-1, 1)
    shares: NDArray[np.float64] = (incidence.T @ answers + prior * overall) / (examples + prior)
    departures: NDArray[np.float64] = shares - overall
    return departures


def _grouped_modalities(benchmark: Benchmark, of: str) -> tuple[str, ...]:
    if of == "partner":
        return partner_modalities(benchmark, "group_mean")
    return require_modalities(benchmark, (DRUG,) if of == DRUG else modalities(benchmark))
