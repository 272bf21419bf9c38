"""Floors: what can be had without any language model, from the training split alone.

A merge that does not beat the drug-only floor has learnt nothing about the interaction; one that does not beat the
random forest has learnt no more of it than fingerprints and counts hold.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from esmerge.baselines.floors.frame import NoFloor, modalities, predictions
from esmerge.baselines.floors.learned import (
    drug_only,
    linear,
    logistic_regression,
    partner_only,
    random_forest,
    single_modality,
)
from esmerge.baselines.floors.shares import group_mean, majority
from esmerge.core.prompts import Benchmark

FLOORS: dict[str, Callable[[Benchmark], pd.DataFrame]] = {
    "majority": majority,
    "group_mean": group_mean,
    "drug_only": drug_only,
    "partner_only": partner_only,
    "logistic_regression": logistic_regression,
    "random_forest": random_forest,
}

__all__ = [
    "FLOORS",
    "NoFloor",
    "drug_only",
    "group_mean",
    "linear",
    "logistic_regression",
    "majority",
    "modalities",
    "partner_only",
    "predictions",
    "random_forest",
    "single_modality",
]
