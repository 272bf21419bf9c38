"""Examples of the same protein first, then of the nearest proteins (arXiv 2603.14405, interaction with a protein)."""

from __future__ import annotations

from esmerge.tasks.few_shot.api import CHOICES, Keys, Nothing
from esmerge.tasks.few_shot.likeness import Likeness


@CHOICES.register("same_protein", Nothing)
def same_protein(likeness: Likeness) -> Keys:
    """The same protein, then proteins by k-mer Jaccard similarity; equals by their nearest molecules.

    Raises:
        ConfigError: a question holds no protein, or no molecule.
    """
    likeness.require("same_protein", protein=1, molecule=1)
    nearness = likeness.same("protein") + likeness.similarity("protein")  # 2 for the same, at most 1 for another
    return [nearness, likeness.similarity("molecule")]
