"""The nearest in everything that a question holds: for questions about one entity, and for any other form."""

from __future__ import annotations

import numpy as np

from esmerge.core.errors import ConfigError
from esmerge.tasks.few_shot.api import CHOICES, Keys, Nothing
from esmerge.tasks.few_shot.likeness import Likeness


@CHOICES.register("nearest_entity", Nothing)
def nearest_entity(likeness: Likeness) -> Keys:
    """Mean over the modalities of a question of each one's own similarity.

    Raises:
        ConfigError: a question holds no entity.
    """
    if not likeness.traits:
        raise ConfigError(
            "benchmark.shot_choice: these questions hold no entities, so none is nearest: use shot_choice=random"
        )
    return [np.mean([likeness.similarity(modality) for modality in likeness.traits], axis=0)]
