"""The rule that fits what a question holds (arXiv 2603.14405, few-shot examples of each benchmark)."""

from __future__ import annotations

from esmerge.tasks.few_shot.api import SHOT_RULES, NoSettings, SortKeys
from esmerge.tasks.few_shot.similarity import Similarity


@SHOT_RULES.register("auto", NoSettings)
def auto(similarity: Similarity) -> SortKeys:
    """Choose by the rule that ``rule`` names."""
    keys: SortKeys = SHOT_RULES.get(rule(similarity)).function(similarity)
    return keys


def rule(similarity: Similarity) -> str:
    """The name of the rule: see the table in the module ``esmerge.tasks.few_shot.few_shot``."""
    molecules = similarity.count("molecule")
    partners = set(similarity.entities) - {"molecule"}
    if molecules == 1 and partners == {"protein"}:
        return "nearest_molecule" if _fixed(similarity) else "same_protein"
    if molecules == 1 and partners == {"cell"}:
        return "same_cell"
    if molecules > 1 and partners <= {"cell"}:
        return "nearest_pair"
    return "nearest_entity"


def _fixed(similarity: Similarity) -> bool:
    """Whether all examples ask about one protein, or belong to one named group: an enzyme."""
    named = len(similarity.groups) == 1 and "" not in similarity.groups
    return named or similarity.count_distinct("protein") == 1
