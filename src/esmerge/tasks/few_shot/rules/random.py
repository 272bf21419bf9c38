"""Random training examples, drawn anew for every question: the baseline for choosing by similarity."""

from __future__ import annotations

import numpy as np

from esmerge.core.rng import generator
from esmerge.tasks.few_shot.api import SHOT_RULES, NoSettings, SortKeys
from esmerge.tasks.few_shot.similarity import Similarity


@SHOT_RULES.register("random", NoSettings)
def random(similarity: Similarity) -> SortKeys:
    """Numbers drawn from the seed and the question's id."""
    streams = [generator(similarity.seed, f"shots-{question.id}") for question in similarity.questions]
    return [np.stack([stream.random(len(similarity.train)) for stream in streams])]
