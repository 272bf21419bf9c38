"""What the specialists learn from: rows of real tables, turned into closed questions with short answers.

A lesson is one question asked about one column of one table. Its answers are balanced by drawing the answer first and
then an entity that has it. Which entities are held out is decided by what they are, so an entity that two tables share
is held out of both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from esmerge.core.errors import ConfigError, InputError
from esmerge.core.prompts import Entity, Example
from esmerge.core.rng import generator
from esmerge.data.identity import text_identity
from esmerge.data.rules import number
from esmerge.data.sequences import gene_list
from esmerge.data.splits import hashed_sides
from esmerge.data.tables import SHOWN, RowValidator, read_columns, shared
from esmerge.data.templates import answers, fill

ANSWER_FROM = ("above", "contains", "classes")
CELL = "cell"


@dataclass(frozen=True)
class LessonSettings:
    """One question about one column of a table.

    Attributes:
        expert: who is taught.
        modality: what the entities are; the prompt holds it in braces.
        table: CSV or TSV file under the root.
        entity, answer: columns of the raw entity and of what is asked.
        prompt: the question, in the style of the benchmarks' English prompts.
        labels: the answers; of two, the negative one first.
        above: the second label is right where the answer column is a number above this.
        contains: the second label is right where the answer column's text contains this.
        classes: value of the answer column -> label; null leaves rows of that value out.
        rows: column -> the value that a row must have to be used at all, e.g. ``{split: train}``.
        words: an entity that is read as text is cut to this many words; None for all.
        max_rejects: the load fails if more than this share of the rows is refused.
    """

    expert: str
    modality: str
    table: str
    entity: str
    answer: str
    prompt: str
    labels: list[str]
    above: float | None = None
    contains: str | None = None
    classes: dict[str, str | None] | None = None
    rows: dict[str, str] = field(default_factory=dict)
    words: int | None = None
    max_rejects: float = 0.05

    def __post_init__(self) -> None:
        criteria = [name for name in ANSWER_FROM if getattr(self, name) is not None]
        where = f"a lesson of {self.expert!r} on {self.table}"
        if len(criteria) != 1:
            raise ConfigError(f"{where} sets {', '.join(criteria) or 'none'} of {', '.join(ANSWER_FROM)}: expected one")
        if len(set(self.labels)) < 2 or (self.classes is None and len(self.labels) != 2):
            raise ConfigError(f"{where} has labels {self.labels}: expected two different ones, negative first")
        if self.entity == self.answer:
            raise ConfigError(f"{where} takes entity and answer from one column, {self.entity}: expected two")
        if self.words is not None and self.words < 1:
            raise ConfigError(f"{where} has words={self.words}: expected a whole number from 1, or null for all")
        strange = {label for label in (self.classes or {}).values() if label not in (None, *self.labels)}
        if strange:
            raise ConfigError(f"{where} maps classes to {', '.join(sorted(map(str, strange)))}: not among its labels")


@dataclass(frozen=True)
class Lesson:
    """A lesson with its entities.

    Attributes:
        name: its name in the config.
        labels: the answers as they follow the prompt.
        train, held_out: for each label, the entities it is right for.
        rejects: rows that could not be used, with the reason.
    """

    name: str
    expert: str
    modality: str
    prompt: str
    labels: tuple[str, ...]
    train: tuple[tuple[str, ...], ...]
    held_out: tuple[tuple[str, ...], ...]
    rejects: tuple[str, ...] = ()

    def ask(self, value: str, answer: int) -> Example:
        """One question about one entity."""
        prompt = fill(self.prompt, {self.modality: [Entity(self.modality, value)]})
        return Example(f"{self.name}:{value}", prompt, self.labels, answer)

    def counts(self) -> dict[str, int]:
        """How many entities there are on each side, and how many rows were refused."""
        sides = {"train": self.train, "held_out": self.held_out}
        return {side: sum(map(len, columns)) for side, columns in sides.items()} | {"refused": len(self.rejects)}


def read_lesson(
    name: str, settings: LessonSettings, root: Path, check: Callable[[str], str], held_out: float, seed: int
) -> Lesson:
    """Read a lesson's table.

    Args:
        root: folder with the tables.
        check: raw entity -> the form that is asked about; raises ``InputError``.
        held_out: share of the entities that is kept for the exam.

    Raises:
        InputError: the file or a column is missing, too many rows are refused, or a label is right for no entity of
            one side.
    """
    validator = _validator(name, settings, root)
    total = len(validator.frame)
    validator.require([settings.entity, settings.answer])
    validator.convert(settings.entity, check)
    validator.convert(settings.answer, _answer(settings))
    left_out = validator.frame[settings.answer] < 0  # by the config, so not a reject
    validator.frame = validator.frame[~left_out]
    validator.distinct([settings.entity], settings.answer)
    _check_rejects(name, settings, validator, total)
    frame = validator.frame.rename(columns={settings.entity: "value", settings.answer: "label"})[["value", "label"]]
    keys = shared(frame, {"value": text_identity(settings.modality)})["value"]  # salts and tautomers share a side
    taught = hashed_sides(keys, seed, held_out / 2, held_out / 2) == "train"
    sides = {"train": _by_label(frame[taught], settings), "held_out": _by_label(frame[~taught], settings)}
    for side, columns in sides.items():
        empty = [label for label, values in zip(settings.labels, columns, strict=True) if not values]
        if empty:
            raise InputError(f"lesson {name!r}: {settings.table} has no {side} row for {', '.join(empty)}")
    rejects = tuple(f"{reject.row}: {reject.reason}" for reject in validator.rejects)
    labels = answers(settings.labels, settings.prompt)
    lesson = Lesson(name, settings.expert, settings.modality, settings.prompt, labels, **sides, rejects=rejects)
    lesson.ask(lesson.train[0][0], 0)  # a prompt without a place for the entity fails here
    return lesson


def as_text(modality: str, words: int | None) -> Callable[[str], str]:
    """The check of an entity that is read as text: its first ``words`` words; a cell's are gene symbols."""
    if modality == CELL:
        return lambda text: gene_list(text, words)
    return lambda text: " ".join(text.split()[:words])


def draw(lessons: Sequence[Lesson], count: int, seed: int, stream: str, step: int) -> list[Example]:
    """``count`` training questions: lesson, answer and entity each drawn uniformly."""
    rng = generator(seed, stream, step)
    examples = []
    for _ in range(count):
        lesson = lessons[int(rng.integers(len(lessons)))]
        answer = int(rng.integers(len(lesson.labels)))
        values = lesson.train[answer]
        examples.append(lesson.ask(values[int(rng.integers(len(values)))], answer))
    return examples


def exam(lessons: Sequence[Lesson], count: int, seed: int) -> list[Example]:
    """Questions about held-out entities, none twice: ``count`` rounded up to equal shares of every lesson and answer.

    An answer that fewer entities have gets fewer.
    """
    kinds = [(lesson, answer) for lesson in lessons for answer in range(len(lesson.labels))]
    share = -(-count // len(kinds))
    examples = []
    for lesson, answer in kinds:
        values = lesson.held_out[answer]
        order = generator(seed, f"exam-{lesson.name}", answer).permutation(len(values))[:share]
        examples += [lesson.ask(values[index], answer) for index in order]
    return examples


def pools(lessons: Sequence[Lesson]) -> dict[str, tuple[str, ...]]:
    """Modality -> its training entities in the lessons' order, each once."""
    by_modality: dict[str, dict[str, None]] = {}
    for lesson in lessons:
        entities = by_modality.setdefault(lesson.modality, {})
        entities.update(dict.fromkeys(value for values in lesson.train for value in values))
    return {modality: tuple(entities) for modality, entities in by_modality.items()}


def _validator(name: str, settings: LessonSettings, root: Path) -> RowValidator:
    path = root / settings.table
    if not path.is_file():
        raise InputError(f"lesson {name!r}: no file {path}; does specialists.root={root} hold {settings.table}?")
    validator = RowValidator(read_columns(path, [settings.entity, settings.answer, *settings.rows]))
    for column, value in settings.rows.items():
        validator.frame = validator.frame[validator.frame[column] == value]
    return validator


def _check_rejects(name: str, settings: LessonSettings, validator: RowValidator, total: int) -> None:
    count = len(validator.rejects)
    if count > settings.max_rejects * total:
        reasons = "; ".join(f"{reject.row}: {reject.reason}" for reject in validator.rejects[:SHOWN])
        raise InputError(
            f"lesson {name!r}: {count} of {total} rows of {settings.table} were refused, more than "
            f"max_rejects={settings.max_rejects:g} allows. First reasons: {reasons}"
        )


def _answer(settings: LessonSettings) -> Callable[[str], int]:
    """From the answer column's text to the index of the right label; -1 leaves the row out."""
    if settings.above is not None:
        return lambda text: int(number(text, settings.answer) > float(settings.above or 0))
    if settings.contains is not None:
        return lambda text: int(str(settings.contains) in text)
    classes = settings.classes or {}

    def label_index(text: str) -> int:
        if text not in classes:
            raise InputError(f"{settings.answer} {text!r} is not one of {', '.join(classes)}")
        label = classes[text]
        return -1 if label is None else settings.labels.index(label)

    return label_index


def _by_label(rows: pd.DataFrame, settings: LessonSettings) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(rows["value"][rows["label"] == label]) for label in range(len(settings.labels)))
