"""What specialists are taught: one side of a panel is perceived, the other stands in words.

A first entity is taught by its answers to every name ("Molecule: (perceived)", "Enzyme: CYP2D6", yes), a second entity
by its name, which is looked up in a record ("Molecule: CYP2D6 No, CYP3A4 Yes", "Enzyme: (perceived)", no). Training
entities alone are taught; the exam asks the panel's validation questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from esmerge.core.prompts import Answer, Entity, Example, PromptSegment
from esmerge.model.imitation import Taught
from esmerge.specialists.families.panels.wording import (
    EQUALS,
    NO,
    YES,
    Line,
    Wording,
    answer_to,
    draw_lines,
    draw_record,
)

Pair = tuple[Example, Example]
"""Two questions about one thing, first the one whose answer is no."""


@dataclass(frozen=True)
class Relation:
    """First entities and their answers to names.

    Attributes:
        answers: entity -> name -> whether the answer is yes; both answers occur.
        pairs: of the exam.
    """

    name: str
    modality: str
    wording: Wording
    answers: Mapping[str, Mapping[str, bool]]
    pairs: Sequence[Pair]

    def values(self) -> list[str]:
        """The entities that are taught."""
        return list(self.answers)

    def draw(self, count: int, questions: int, naming: float, rng: np.random.Generator, seed: int) -> list[Taught]:
        """Sequences about one entity each, until ``count * questions`` questions are asked; no name is to be said.

        Of an entity with few answers of one kind few questions are asked in one sequence: if the rarer kind could run
        out, the answers that stand there already would tell those that follow.
        """
        values, remaining = self.values(), count * questions
        sequences = []
        while remaining > 0:
            value = values[int(rng.integers(len(values)))]
            answers = list(self.answers[value].items())
            yes = sum(holds for _, holds in answers)
            lines = draw_lines(answers, min(questions, remaining, yes, len(answers) - yes), rng)
            segments = _asked([self.wording.middle + name for name, _ in lines], lines)
            sequences.append(Taught((self.wording.head, Entity(self.modality, value), *segments)))
            remaining -= len(lines)
        return sequences

    def doubted(self, item: Taught, yes: Mapping[str, float], share: float) -> Taught:
        """A sequence whose answers are in part what someone believes who perceives the entity.

        Args:
            yes: name -> the believed probability of yes.
            share: of a belief; the label has the rest.
        """
        questions, answers = item.sequence[2::2], item.sequence[3::2]
        alternatives = []
        for question, answer in zip(questions, answers, strict=True):
            holds, believed = answer == Answer(YES), yes[str(question).removeprefix(self.wording.middle)]
            alternatives.append((NO, share * (1 - believed)) if holds else (YES, share * believed))
        return replace(item, alternatives=tuple(alternatives))

    @staticmethod
    def perceived(item: Taught) -> str:
        """The entity that a sequence is about."""
        entity = item.sequence[1]
        assert isinstance(entity, Entity)
        return entity.value


@dataclass(frozen=True)
class Identity:
    """Second entities and their names.

    Attributes:
        entities: name -> the entities of that name.
        pairs: of the exam.
    """

    name: str
    modality: str
    wording: Wording
    entities: Mapping[str, Sequence[str]]
    pairs: Sequence[Pair]

    def values(self) -> list[str]:
        """The entities that are taught."""
        return list(dict.fromkeys(value for values in self.entities.values() for value in values))

    def draw(self, count: int, questions: int, naming: float, rng: np.random.Generator, seed: int) -> list[Taught]:
        """``count`` sequences with a drawn record each, and up to ``questions`` entities of its names.

        Args:
            naming: share of the questions in which the entity's name is to be said: what tells all names apart, where
                an answer tells two.
        """
        return [self._sequence(questions, naming, rng, seed) for _ in range(count)]

    def _sequence(self, questions: int, naming: float, rng: np.random.Generator, seed: int) -> Taught:
        wording = self.wording
        record = draw_record(wording, rng, "train", seed)
        lines = draw_lines(record, questions, rng)
        values = [self.entities[name][int(rng.integers(len(self.entities[name])))] for name, _ in lines]
        perceived: list[PromptSegment] = [wording.record(record)]
        words: list[PromptSegment] = [wording.record(record)]
        for value, (name, holds) in zip(values, lines, strict=True):
            named = bool(naming) and rng.random() < naming
            equals, answer = [EQUALS] * named, answer_to(name, holds, named)
            perceived += [wording.middle, Entity(self.modality, value), *equals, answer]
            words += [wording.middle + name + EQUALS * named, answer]
        return Taught(tuple(perceived), imitates=tuple(words))


Lesson = Relation | Identity


def _asked(questions: Sequence[str], lines: Sequence[Line]) -> list[PromptSegment]:
    segments: list[PromptSegment] = []
    for question, (_, holds) in zip(questions, lines, strict=True):
        segments += [question, Answer(YES if holds else NO)]
    return segments
