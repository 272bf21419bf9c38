"""Floors that count: how often each label occurs in training, over all and among the examples of an entity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from esmerge.baselines.floors.features import incidence
from esmerge.baselines.floors.frame import DRUG, held, modalities, partners, predictions, training_answers
from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Benchmark, Entity, Example

GROUPS = (DRUG, "partner", "both")


def majority(benchmark: Benchmark) -> pd.DataFrame:
    """Always the commonest training label; its scores are the labels' (add-one smoothed) training frequencies.

    Raises:
        NoFloor: the benchmark has no training split.
    """
    counts = np.bincount(training_answers(benchmark, "majority"), minlength=len(benchmark.labels)) + 1
    probabilities = np.tile(counts / counts.sum(), (len(benchmark.test), 1))
    return predictions(benchmark, probabilities)


def group_mean(benchmark: Benchmark, of: str = "both", prior: float = 1.0) -> pd.DataFrame:
    """The training answers of the same drug, protein or cell, with no look at what they are made of.

    The share of a label is its share in training, plus, for each entity of the question, how far its share among the
    training examples that hold this entity departs from that: (count + prior * share) / (examples + prior) - share.
    An entity that training does not hold departs by nothing. Shares below 0 become 0, and the rest is scaled to 1.

    Args:
        of: the entities that count: ``molecule``, ``partner`` (all others) or ``both``, each that the question holds.
        prior: weight of the overall share, in examples; 0 for bare means.

    Returns:
        One row per test example, as ``predictions`` says.

    Raises:
        NoFloor: the benchmark lacks these entities, or has no training split.
    """
    chosen = _chosen(benchmark, of)
    answers = np.eye(len(benchmark.labels))[training_answers(benchmark, "group_mean")]
    overall = answers.mean(axis=0)
    known = dict.fromkeys(entity for example in benchmark.train for entity in _entities(example, chosen))
    places = {entity: place for place, entity in enumerate(known)}
    holds = _holds(benchmark.train, chosen, places)
    departures = _departures(holds, answers, overall, prior)
    shares = np.maximum(overall + _holds(benchmark.test, chosen, places) @ departures, 0.0)
    return predictions(benchmark, shares / shares.sum(axis=1, keepdims=True))


def _departures(
    holds: csr_matrix, answers: NDArray[np.float64], overall: NDArray[np.float64], prior: float
) -> NDArray[np.float64]:
    """How far the labels' shares among an entity's examples depart from the overall ones, (entities, C)."""
    examples = np.asarray(holds.sum(axis=0)).reshape(-1, 1)
    shares: NDArray[np.float64] = (holds.T @ answers + prior * overall) / (examples + prior)
    return shares - overall


def _chosen(benchmark: Benchmark, of: str) -> tuple[str, ...]:
    if of not in GROUPS:
        raise ConfigError(f"method.of={of!r}: expected one of {', '.join(GROUPS)}")
    if of == "partner":
        return partners(benchmark, "group_mean")
    return held(benchmark, (DRUG,) if of == DRUG else modalities(benchmark))


def _entities(example: Example, chosen: Sequence[str]) -> tuple[Entity, ...]:
    """The example's entities of these modalities; one that stands twice counts once."""
    return tuple(dict.fromkeys(entity for entity in example.entities() if entity.modality in chosen))


def _holds(examples: Sequence[Example], chosen: Sequence[str], places: Mapping[Entity, int]) -> csr_matrix:
    """Which example holds which known entity, (n, entities)."""
    rows = [[places[e] for e in _entities(example, chosen) if e in places] for example in examples]
    return incidence(rows, len(places))
