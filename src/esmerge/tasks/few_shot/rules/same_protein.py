"""Examples of the same protein first, then of the nearest proteins (arXiv 2603.14405, interaction with a protein)."""

from __future__ import annotations

from esmerge.tasks.few_shot.api import SHOT_RULES, NoSettings, SortKeys
from esmerge.tasks.few_shot.similarity import Similarity


@SHOT_RULES.register("same_protein", NoSettings)
def same_protein(similarity: Similarity) -> SortKeys:
    """The same protein, then proteins by k-mer Jaccard similarity; equals by their nearest molecules.

    Raises:
        ConfigError: a question holds no protein, or no molecule.
    """
    similarity.require("same_protein", protein=1, molecule=1)
    nearness = similarity.equal("protein") + similarity.scores("protein")  # 2 for the same, at most 1 for another
    return [nearness, similarity.scores("molecule")]
