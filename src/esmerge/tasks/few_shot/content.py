"""What a question asks, apart from the order of its entities: questions with one content are one question."""

from __future__ import annotations

from collections.abc import Callable

from esmerge.core.prompts import Entity, Example, Prompt
from esmerge.data.identity import EXACT, identity


def content(example: Example, rule: str = EXACT) -> Prompt:
    """The entities of a question, sorted, so that their order does not count, and then its text, in which an entity
    may be described in words.

    Args:
        example: a question without solved examples before it.
        rule: which molecules are one (``esmerge.data.identity``); each stands as what equal ones share.

    Raises:
        InputError: a molecule is not valid SMILES, under another rule than ``exact``.
    """
    same: dict[str, Callable[[str], str]] = {}
    entities = [
        Entity(entity.modality, same.setdefault(entity.modality, identity(entity.modality, rule))(entity.value))
        for entity in example.entities()
    ]
    entities.sort(key=lambda entity: (entity.modality, entity.value))
    return (*entities, *(segment for segment in example.prompt if isinstance(segment, str)))
