"""The rule that fits what a question holds (arXiv 2603.14405, few-shot examples of each benchmark)."""

from __future__ import annotations

from esmerge.tasks.few_shot.api import CHOICES, Keys, Nothing
from esmerge.tasks.few_shot.likeness import Likeness


@CHOICES.register("auto", Nothing)
def auto(likeness: Likeness) -> Keys:
    """Choose by the rule that ``rule`` names."""
    keys: Keys = CHOICES.get(rule(likeness)).function(likeness)
    return keys


def rule(likeness: Likeness) -> str:
    """The name of the rule: see the table in the module ``esmerge.tasks.few_shot.few_shot``."""
    molecules = likeness.count("molecule")
    partners = set(likeness.traits) - {"molecule"}
    if molecules == 1 and partners == {"protein"}:
        return "nearest_molecule" if _fixed(likeness) else "same_protein"
    if molecules == 1 and partners == {"cell"}:
        return "same_cell"
    if molecules > 1 and partners <= {"cell"}:
        return "nearest_pair"
    return "nearest_entity"


def _fixed(likeness: Likeness) -> bool:
    """Whether all examples ask about one protein, or belong to one named group: an enzyme."""
    named = len(likeness.groups) == 1 and "" not in likeness.groups
    return named or likeness.values("protein") == 1
