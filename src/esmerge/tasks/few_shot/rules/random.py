"""Random training examples, other ones for every question: what choosing by similarity is measured against."""

from __future__ import annotations

import numpy as np

from esmerge.core.rng import generator
from esmerge.tasks.few_shot.api import CHOICES, Keys, Nothing
from esmerge.tasks.few_shot.likeness import Likeness


@CHOICES.register("random", Nothing)
def random(likeness: Likeness) -> Keys:
    """Numbers drawn from the seed and the question's id."""
    count = len(likeness.train)
    return [np.stack([generator(likeness.seed, f"shots-{one.id}").random(count) for one in likeness.questions])]
