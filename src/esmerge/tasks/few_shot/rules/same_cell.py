"""Examples of the same cell first, then of the nearest cells (arXiv 2603.14405, response of a cell)."""

from __future__ import annotations

from esmerge.tasks.few_shot.api import SHOT_RULES, NoSettings, SortKeys
from esmerge.tasks.few_shot.similarity import Similarity


@SHOT_RULES.register("same_cell", NoSettings)
def same_cell(similarity: Similarity) -> SortKeys:
    """The same cell, then cells by gene-set Jaccard similarity; equals by their nearest molecules.

    Raises:
        ConfigError: a question holds no cell, or no molecule.
    """
    similarity.require("same_cell", cell=1, molecule=1)
    nearness = similarity.equal("cell") + similarity.scores("cell")  # 2 for the same, at most 1 for another
    return [nearness, similarity.scores("molecule")]
