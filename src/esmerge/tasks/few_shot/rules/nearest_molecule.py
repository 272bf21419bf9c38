"""The nearest molecules, whatever else a question holds: for a fixed enzyme (arXiv 2603.14405, CYP benchmarks)."""

from __future__ import annotations

from esmerge.tasks.few_shot.api import CHOICES, Keys, Nothing
from esmerge.tasks.few_shot.likeness import Likeness


@CHOICES.register("nearest_molecule", Nothing)
def nearest_molecule(likeness: Likeness) -> Keys:
    """Tanimoto similarity (Morgan radius 2, 2048 bits); the mean over several molecules, in the order that suits best.

    Raises:
        ConfigError: a question holds no molecule.
    """
    likeness.require("nearest_molecule", molecule=1)
    return [likeness.similarity("molecule")]
