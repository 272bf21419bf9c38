"""Training sequences that ask several lessons about one entity, each question with its answer.

Lessons whose prompts begin alike, up to the entity, are asked one after the other; the beginning stands once. Reading
the entity once for several answers costs a fraction of asking anew each time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from esmerge.core.prompts import Answer, Entity, Example, Prompt, PromptSegment
from esmerge.core.rng import generator
from esmerge.specialists.families.language_model.lessons import Lesson

Answers = dict[str, int]  # name of a lesson -> index of the right label


class Interview:
    """Draws sequences about the training entities of some lessons, all of one modality."""

    def __init__(self, lessons: Sequence[Lesson]) -> None:
        self.lessons = {lesson.name: lesson for lesson in lessons}
        self._by_entity = by_entity(lessons, [lesson.train for lesson in lessons])

    def draw(self, count: int, questions: int, seed: int, stream: str, step: int) -> list[Prompt]:
        """``count`` sequences: lesson, answer and entity each drawn uniformly, then other lessons about the entity."""
        rng = generator(seed, stream, step)
        return [self._sequence(questions, rng) for _ in range(count)]

    def _sequence(self, questions: int, rng: np.random.Generator) -> Prompt:
        lesson = list(self.lessons.values())[int(rng.integers(len(self.lessons)))]
        values = lesson.train[int(rng.integers(len(lesson.labels)))]
        value = values[int(rng.integers(len(values)))]
        answers = self._by_entity[beginning(lesson), value]
        others = [name for name in answers if name != lesson.name]
        more = [others[index] for index in rng.permutation(len(others))[: questions - 1]]
        names = [lesson.name, *more]
        return self._interview(value, [(names[index], answers[names[index]]) for index in rng.permutation(len(names))])

    def _interview(self, value: str, asked: Sequence[tuple[str, int]]) -> Prompt:
        sequence: list[PromptSegment] = []
        for name, answer in asked:
            lesson = self.lessons[name]
            prompt = lesson.ask(value, answer).prompt
            position = next(index for index, segment in enumerate(prompt) if isinstance(segment, Entity))
            sequence += prompt[position + 1 :] if sequence else prompt
            sequence.append(Answer(lesson.labels[answer]))
        return tuple(sequence)


def matched(lessons: Sequence[Lesson], count: int, seed: int) -> list[tuple[Example, Example]]:
    """Held-out entities asked twice, ``count`` questions or as many as there are: first no is right, then yes.

    No and yes are the first and the second label of lessons that have two, the same in both. Within every lesson both
    occur equally often, so neither the entity nor the lesson tells anything.
    """
    two = [lesson for lesson in lessons if len(lesson.labels) == 2]
    by_name, rng = {lesson.name: lesson for lesson in two}, generator(seed, "matched-exam")
    entities = sorted(by_entity(two, [lesson.held_out for lesson in two]).items())
    by_kind: dict[tuple[str, str], list[str]] = {}  # (lesson of the no, lesson of the yes) -> entities
    for index in rng.permutation(len(entities)):
        (_, value), answers = entities[index]
        sides = [[name for name, answer in answers.items() if answer == side] for side in (0, 1)]
        if all(sides):
            no, yes = (names[int(rng.integers(len(names)))] for names in sides)
            if by_name[no].labels == by_name[yes].labels:
                by_kind.setdefault((no, yes), []).append(value)
    pairs = []
    for (no, yes), value in _in_turn(by_kind, -(-count // 4)):
        pairs.append((by_name[no].ask(value, 0), by_name[yes].ask(value, 1)))
    return pairs


def by_entity(
    lessons: Sequence[Lesson], sides: Sequence[Sequence[Sequence[str]]]
) -> dict[tuple[str, str], dict[str, int]]:
    """(beginning of the prompts, entity) -> lesson -> index of the right label.

    Args:
        sides: of each lesson, the entities of each label.
    """
    answers: dict[tuple[str, str], Answers] = {}
    for lesson, labels in zip(lessons, sides, strict=True):
        for answer, values in enumerate(labels):
            for value in values:
                answers.setdefault((beginning(lesson), value), {})[lesson.name] = answer
    return answers


def beginning(lesson: Lesson) -> str:
    """A lesson's prompt up to its entity."""
    return lesson.prompt.split(f"{{{lesson.modality}}}")[0]


def _in_turn(by_kind: Mapping[tuple[str, str], Sequence[str]], turns: int) -> list[tuple[tuple[str, str], str]]:
    """Kinds in turn, each with its mirror image, until ``turns`` entities of either are taken or none is left."""
    kinds = sorted(kind for kind in by_kind if kind[0] < kind[1] and kind[::-1] in by_kind)
    rows = [min(len(by_kind[kind]), len(by_kind[kind[::-1]])) for kind in kinds]
    turn = [(kind, row) for row in range(max(rows, default=0)) for kind, most in zip(kinds, rows, strict=True)
            if row < most]  # fmt: skip
    return [(way, by_kind[way][row]) for kind, row in turn[:turns] for way in (kind, kind[::-1])]
