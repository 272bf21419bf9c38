"""What the shared backbone learns to read: facts in words, and questions whose answers stand in them.

A form is a fact with two lists, what holds and what does not, and a question about one name. Where names have classes
the fact lists classes, so that the answer needs to be known what a name is: a family, a lineage. Facts are held out by
what they list; no entity that anyone perceives occurs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Answer, Example, Prompt, PromptSegment
from esmerge.core.rng import generator
from esmerge.data.label_tables import joined_names
from esmerge.data.splits import hashed_sides

NO, YES = " No", " Yes"
PLACES = ("{yes}", "{no}")
NAME = "{name}"
MOST_LISTED = 3  # on each side of a fact
HELD_OUT = 0.2  # share of the facts


@dataclass(frozen=True)
class FormSettings:
    """One form of text-only question.

    Attributes:
        facts: ways to put a fact, each with ``{yes}`` and ``{no}``.
        questions: ways to ask, each with ``{name}``.
        names: name -> its class, which is what facts list; a name that is its own class is listed itself.
    """

    facts: list[str]
    questions: list[str]
    names: dict[str, str]

    def __post_init__(self) -> None:
        for fact in self.facts:
            if any(fact.count(place) != 1 for place in PLACES):
                raise ConfigError(f"specialists.reading: the fact {fact!r} must hold {{yes}} and {{no}} once each")
        for question in self.questions:
            if question.count(NAME) != 1:
                raise ConfigError(f"specialists.reading: the question {question!r} must hold {{name}} once")
        if not self.facts or not self.questions or len(set(self.names.values())) < 4:
            raise ConfigError("specialists.reading: a form needs a fact, a question, and names of four classes or more")


@dataclass(frozen=True)
class Scene:
    """A fact and the questions that follow from it.

    Attributes:
        fact: in words.
        asked: (question, whether the answer is yes), in their order.
    """

    fact: str
    asked: Sequence[tuple[str, bool]]

    def solved(self) -> Prompt:
        """A training sequence with an answer after every question."""
        prompt: list[PromptSegment] = [self.fact]
        for question, holds in self.asked:
            prompt += [question, Answer(YES if holds else NO)]
        return tuple(prompt)

    def example(self, name: str) -> Example:
        """The first question alone, to be scored."""
        question, holds = self.asked[0]
        return Example(name, (self.fact, question), (NO, YES), int(holds))


def draw_scene(form: FormSettings, questions: int, rng: np.random.Generator, side: str, seed: int) -> Scene:
    """A fact of one side, ``train`` or ``held_out``, and up to so many questions about what it lists."""
    classes = sorted(set(form.names.values()))
    while True:
        most = min(MOST_LISTED, len(classes) // 2)
        holding, others = (int(rng.integers(1, most + 1)) for _ in PLACES)
        listed = [classes[index] for index in rng.permutation(len(classes))[: holding + others]]
        if side_of(listed, holding, seed) == side:
            break
    yes, no = listed[:holding], listed[holding:]
    template = form.facts[int(rng.integers(len(form.facts)))]
    fact = template.replace(PLACES[0], joined_names(yes, "and")).replace(PLACES[1], joined_names(no, "or"))
    first = yes if rng.integers(2) else no  # as many yes as no, however many are listed
    asked = [first[int(rng.integers(len(first)))]]
    asked += [item for item in rng.permutation(listed).tolist() if item != asked[0]][: questions - 1]
    return Scene(fact, [(_question(form, item, rng), item in yes) for item in asked])


def side_of(listed: Sequence[str], holding: int, seed: int) -> str:
    """Whether a fact is held out; it depends on what stands in each list, not on the order."""
    key = " | ".join(" ".join(sorted(part)) for part in (listed[:holding], listed[holding:]))
    return "train" if hashed_sides(pd.Series([key]), seed, HELD_OUT / 2, HELD_OUT / 2)[0] == "train" else "held_out"


def reading_batch(
    forms: Mapping[str, FormSettings], size: int, questions: int, seed: int, stream: str, step: int
) -> list[Prompt]:
    """Training sequences, their forms drawn alike."""
    rng, names = generator(seed, stream, step), list(forms)
    drawn = (forms[names[int(rng.integers(len(names)))]] for _ in range(size))
    return [draw_scene(form, questions, rng, "train", seed).solved() for form in drawn]


def reading_exam(forms: Mapping[str, FormSettings], count: int, seed: int) -> dict[str, list[Example]]:
    """Form -> ``count`` questions about held-out facts."""
    exams = {}
    for name, form in forms.items():
        rng = generator(seed, f"reading-exam-{name}")
        scenes = [draw_scene(form, 1, rng, "held_out", seed) for _ in range(count)]
        exams[name] = [scene.example(f"{name}-{index}") for index, scene in enumerate(scenes)]
    return exams


def _question(form: FormSettings, item: str, rng: np.random.Generator) -> str:
    names = [name for name, kind in form.names.items() if kind == item]
    template = form.questions[int(rng.integers(len(form.questions)))]
    return template.replace(NAME, names[int(rng.integers(len(names)))])
