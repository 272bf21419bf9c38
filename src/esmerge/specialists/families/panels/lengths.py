"""Whether lessons whose entities are read as text fit the backbone: looked at before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from esmerge.core.prompts import Answer, Entity, Prompt
from esmerge.model.backbone import Backbone
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.model.reach import check_reach
from esmerge.specialists.families.panels.lessons import Lesson, Relation
from esmerge.specialists.families.panels.wording import NO, YES

REMEDY = "give it an encoder (specialists.encoders), ask fewer specialists.lora.questions, or take another checkpoint"


def check_texts(lessons: Sequence[Lesson], backbone: Backbone, questions: int) -> None:
    """Refuse lessons with sequences that are longer than the backbone reads; every entity counts as text.

    Args:
        questions: of a sequence, at most.

    Raises:
        InputError: naming lesson and entity, the length, the limit, and how many there are.
    """
    prompt_encoder = PromptEncoder(backbone, {})
    for lesson in lessons:
        values = lesson.values()
        prompts = [longest_sequence(lesson, value, questions) for value in values]
        check_reach(prompt_encoder, prompts, partial(_named, lesson, values), REMEDY)


def longest_sequence(lesson: Lesson, value: str, questions: int) -> Prompt:
    """The longest sequence about an entity that can be drawn; of second entities, one that asks about it every time."""
    wording = lesson.wording
    names = sorted(wording.names, key=len, reverse=True)
    entity = Entity(lesson.modality, value)
    if isinstance(lesson, Relation):
        answers = list(lesson.answers[value].values())
        count = min(questions, sum(answers), len(answers) - sum(answers))
        return (wording.head, entity, *(wording.middle + names[0], Answer(YES)) * count)
    record = [(name, True) for name in names[: wording.listed]]
    return (wording.record(record), *(wording.middle, entity, Answer(NO)) * min(questions, len(record)))


def _named(lesson: Lesson, values: Sequence[str], index: int) -> str:
    return f"lesson {lesson.name!r}, {lesson.modality} {values[index][:40]}…"
