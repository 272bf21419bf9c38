"""The words of a panel's questions, and text-only questions made of them.

A question is ``head, first entity, middle, second entity``. In words the first entity is a record of names with
answers and the second a name: "Molecule: CYP2D6 No, CYP3A4 Yes" and "Enzyme: CYP3A4". The answer to a name stands in
the record, so a model that reads can look it up; which names and answers a record holds is drawn, and says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Answer, Example
from esmerge.core.rng import generator
from esmerge.data.splits import hashed_sides
from esmerge.data.templates import PLACEHOLDER

NO, YES = " No", " Yes"
EQUALS = " ="  # after an entity whose name is to be said
FEWEST = 2  # names in a record: one with each answer
FEWEST_NAMES = 4  # of a panel: with fewer, there may be no record to hold out
HELD_OUT = 0.2  # share of the records
Line = tuple[str, bool]
"""A name, and whether the answer is yes."""


@dataclass(frozen=True)
class Wording:
    """The words around the two entities of a panel's question.

    Attributes:
        benchmark: config name of the panel.
        head, middle: before the first and before the second entity.
        listed: names in a record at most.
        names: what a second entity is called, in words.
    """

    benchmark: str
    head: str
    middle: str
    listed: int
    names: tuple[str, ...] = ()

    def record(self, lines: Sequence[Line]) -> str:
        """The question's beginning with a record in place of the first entity."""
        return self.head + ", ".join(name + (YES if holds else NO) for name, holds in lines)


def read_wording(benchmark: str, template: str, listed: int) -> Wording:
    """The words of a prompt template with two placeholders, none after the second; its names are yet to be found.

    Raises:
        ConfigError: another number of placeholders, or text after them.
    """
    parts = PLACEHOLDER.split(template)
    if len(parts) != 5 or parts[4]:
        raise ConfigError(
            f"benchmark {benchmark!r}: its prompt {template!r} must hold two placeholders, and end with the second"
        )
    return Wording(benchmark, parts[0], parts[2], listed)


def draw_record(wording: Wording, rng: np.random.Generator, side: str, seed: int) -> list[Line]:
    """Names with drawn answers, both answers among them, of one side of all records: train or held_out."""
    names = wording.names
    while True:
        count = int(rng.integers(FEWEST, min(wording.listed, len(names)), endpoint=True))
        holds = rng.integers(0, 2, size=count).astype(bool).tolist()
        lines = [
            (names[index], answer) for index, answer in zip(rng.permutation(len(names))[:count], holds, strict=True)
        ]
        if any(holds) and not all(holds) and side_of(lines, seed) == side:
            return lines


def side_of(lines: Sequence[Line], seed: int) -> str:
    """Whether a record is held out: it depends on its names and answers, not on their order."""
    key = " | ".join(sorted(f"{name} {answer}" for name, answer in lines))
    return "train" if hashed_sides(pd.Series([key]), seed, HELD_OUT / 2, HELD_OUT / 2)[0] == "train" else "held_out"


def draw_lines(lines: Sequence[Line], count: int, rng: np.random.Generator) -> list[Line]:
    """Up to ``count`` of the lines, each once; before each, a fair coin says whether a yes or a no comes next."""
    remaining = {answer: [line for line in lines if line[1] is answer] for answer in (False, True)}
    selection: list[Line] = []
    while len(selection) < count and any(remaining.values()):
        answer = bool(rng.integers(2)) if all(remaining.values()) else bool(remaining[True])
        selection.append(remaining[answer].pop(int(rng.integers(len(remaining[answer])))))
    return selection


def text_batch(
    wordings: Sequence[Wording], size: int, questions: int, seed: int, stream: str, step: int, naming: float = 0.0
) -> list[tuple[str | Answer, ...]]:
    """Text-only training sequences: a record, and up to so many questions about it; panels are drawn alike.

    Args:
        naming: share of the questions in which the name is to be said once more: "Enzyme: CYP3A4 = CYP3A4".
    """
    rng = generator(seed, stream, step)
    sequences = []
    for _ in range(size):
        wording = wordings[int(rng.integers(len(wordings)))]
        record = draw_record(wording, rng, "train", seed)
        sequence: list[str | Answer] = [wording.record(record)]
        for name, holds in draw_lines(record, questions, rng):
            named = bool(naming) and rng.random() < naming
            sequence += [wording.middle + name + EQUALS * named, answer_to(name, holds, named)]
        sequences.append(tuple(sequence))
    return sequences


def answer_to(name: str, holds: bool, named: bool) -> Answer:
    """What is answered about a name: the name itself, or whether its answer is yes."""
    return Answer(f" {name}" if named else YES if holds else NO)


def text_exam(wordings: Sequence[Wording], count: int, seed: int) -> Mapping[str, list[Example]]:
    """Panel -> ``count`` questions about held-out records, yes and no in turn."""
    exams = {}
    for wording in wordings:
        rng, examples = generator(seed, f"reading-{wording.benchmark}"), []
        for number in range(count):
            record = draw_record(wording, rng, "held_out", seed)
            fitting = [name for name, holds in record if holds is bool(number % 2)]
            prompt = (wording.record(record), wording.middle + fitting[int(rng.integers(len(fitting)))])
            examples.append(Example(f"{wording.benchmark}:{number}", prompt, (NO, YES), number % 2))
        exams[wording.benchmark] = examples
    return exams
