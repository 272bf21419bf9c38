"""The nearest pair of molecules, on the same cell first (arXiv 2603.14405, drug combinations)."""

from __future__ import annotations

from esmerge.tasks.few_shot.api import SHOT_RULES, NoSettings, SortKeys
from esmerge.tasks.few_shot.similarity import Similarity


@SHOT_RULES.register("nearest_pair", NoSettings)
def nearest_pair(similarity: Similarity) -> SortKeys:
    """The same cell if there is one; then the mean Tanimoto similarity of the molecules, in the better of both orders.

    Between equally near pairs the more similar cell decides.

    Raises:
        ConfigError: a question holds fewer than two molecules.
    """
    similarity.require("nearest_pair", molecule=2)
    pair = similarity.scores("molecule")
    return [similarity.equal("cell"), pair, similarity.scores("cell")] if similarity.count("cell") else [pair]
