"""What a trunk believes of an entity, as answers to learn from.

A label holds one bit and is often wrong; what the trunk makes of the entity is all that its soft tokens can say of it,
and says how sure it is: Hinton et al., "Distilling the knowledge in a neural network", 2015.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from esmerge.model.encoder import ModalityEncoder
from esmerge.model.imitation import Taught
from esmerge.specialists.families.panels.lessons import Relation
from esmerge.specialists.families.panels.trunks import AnsweringTrunk
from esmerge.specialists.soft_tokens.encoder import SoftTokenEncoder


class Believed:
    """Probabilities of yes.

    Args:
        encoder: whose trunk answers.
        sharpness: by which log-odds of unit mean square are multiplied.
    """

    def __init__(self, encoder: ModalityEncoder, sharpness: float) -> None:
        assert isinstance(encoder, SoftTokenEncoder) and isinstance(encoder.trunk, AnsweringTrunk)
        self.encoder, self.trunk, self.sharpness = encoder, encoder.trunk, sharpness

    def in_place_of_labels(self, items: Sequence[Taught], lesson: Relation, index: int, share: float) -> list[Taught]:
        """Sequences of a lesson whose answers are, in part, what is believed.

        Args:
            index: of the lesson among those of the trunk.
            share: of a belief; the label has the rest.
        """
        if not items:
            return []
        features = self.encoder.features([lesson.perceived(item) for item in items])
        believed = torch.sigmoid(self.sharpness * self.trunk.verdicts(features, index)).tolist()
        names = lesson.wording.names
        return [
            lesson.doubted(item, dict(zip(names, row, strict=True)), share)
            for item, row in zip(items, believed, strict=True)
        ]
