"""Examples of the same cell first, then of the nearest cells (arXiv 2603.14405, response of a cell)."""

from __future__ import annotations

from esmerge.tasks.few_shot.api import CHOICES, Keys, Nothing
from esmerge.tasks.few_shot.likeness import Likeness


@CHOICES.register("same_cell", Nothing)
def same_cell(likeness: Likeness) -> Keys:
    """The same cell, then cells by gene-set Jaccard similarity; equals by their nearest molecules.

    Raises:
        ConfigError: a question holds no cell, or no molecule.
    """
    likeness.require("same_cell", cell=1, molecule=1)
    nearness = likeness.same("cell") + likeness.similarity("cell")  # 2 for the same, at most 1 for another
    return [nearness, likeness.similarity("molecule")]
