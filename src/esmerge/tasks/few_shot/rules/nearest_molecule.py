"""The nearest molecules, by molecules alone: for a fixed enzyme (arXiv 2603.14405, CYP benchmarks)."""

from __future__ import annotations

from esmerge.tasks.few_shot.api import SHOT_RULES, NoSettings, SortKeys
from esmerge.tasks.few_shot.similarity import Similarity


@SHOT_RULES.register("nearest_molecule", NoSettings)
def nearest_molecule(similarity: Similarity) -> SortKeys:
    """Tanimoto similarity (Morgan radius 2, 2048 bits); the mean over several molecules, in the order that suits best.

    Raises:
        ConfigError: a question holds no molecule.
    """
    similarity.require("nearest_molecule", molecule=1)
    return [similarity.scores("molecule")]
