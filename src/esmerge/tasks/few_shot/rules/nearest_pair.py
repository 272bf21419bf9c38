"""The nearest pair of molecules, on the same cell first (arXiv 2603.14405, drug combinations)."""

from __future__ import annotations

from esmerge.tasks.few_shot.api import CHOICES, Keys, Nothing
from esmerge.tasks.few_shot.likeness import Likeness


@CHOICES.register("nearest_pair", Nothing)
def nearest_pair(likeness: Likeness) -> Keys:
    """The same cell if there is one; then the mean Tanimoto similarity of the molecules, in the better of both orders.

    Between equally near pairs the more similar cell decides.

    Raises:
        ConfigError: a question holds fewer than two molecules.
    """
    likeness.require("nearest_pair", molecule=2)
    pair = likeness.similarity("molecule")
    return [likeness.same("cell"), pair, likeness.similarity("cell")] if likeness.count("cell") else [pair]
