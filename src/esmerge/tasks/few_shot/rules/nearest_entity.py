"""The nearest in everything that a question holds: for questions about one entity, and for any other form."""

from __future__ import annotations

import numpy as np

from esmerge.core.errors import ConfigError
from esmerge.tasks.few_shot.api import SHOT_RULES, NoSettings, SortKeys
from esmerge.tasks.few_shot.similarity import Similarity


@SHOT_RULES.register("nearest_entity", NoSettings)
def nearest_entity(similarity: Similarity) -> SortKeys:
    """The mean of the similarities of all modalities of a question.

    Raises:
        ConfigError: a question holds no entity.
    """
    if not similarity.entities:
        raise ConfigError(
            "benchmark.shot_choice: these questions hold no entities, so none is nearest: use shot_choice=random"
        )
    return [np.mean([similarity.scores(modality) for modality in similarity.entities], axis=0)]
