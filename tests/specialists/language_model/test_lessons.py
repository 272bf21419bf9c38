"""Lessons: what a table's rows become, who is held out, and how questions are drawn."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from esmerge.core.errors import InputError
from esmerge.core.prompts import Entity
from esmerge.specialists.families.language_model.lessons import (
    Lesson,
    LessonSettings,
    as_text,
    draw,
    exam,
    pools,
    read_lesson,
)

PROMPT = "Given: {cell}\nFinal answer:"
ROWS = 400


def settings(**changes: object) -> LessonSettings:
    defaults = {"expert": "cell", "modality": "cell", "table": "t.csv", "entity": "genes", "answer": "value"}
    return LessonSettings(**{**defaults, "prompt": PROMPT, "labels": ["No", "Yes"], "above": 0.9, **changes})


def write(root: Path, values: list[object], start: int = 0, **columns: object) -> None:
    genes = [f"G{start + row} CD3D" for row in range(len(values))]
    pd.DataFrame({"genes": genes, "value": values, **columns}).to_csv(root / "t.csv", index=False)


def read(root: Path, name: str = "lesson", held_out: float = 0.25, **changes: object) -> Lesson:
    return read_lesson(name, settings(**changes), root, as_text("cell", None), held_out, 0)


@pytest.fixture
def rare(tmp_path: Path) -> Lesson:
    """One row in ten is a Yes."""
    write(tmp_path, [row % 10 == 0 and 1 or 0 for row in range(ROWS)])
    return read(tmp_path)


def test_every_row_is_on_one_side_under_its_label(rare: Lesson) -> None:
    sides = [set(values) for side in (rare.train, rare.held_out) for values in side]
    assert sum(map(len, sides)) == len(set.union(*sides)) == ROWS
    assert rare.counts() == {"train": len(sides[0] | sides[1]), "held_out": len(sides[2] | sides[3]), "refused": 0}
    assert all(int(value.split()[0][1:]) % 10 == 0 for value in rare.train[1] + rare.held_out[1])
    assert 0.15 * ROWS < rare.counts()["held_out"] < 0.35 * ROWS


def test_an_entity_is_held_out_of_every_table_or_of_none(tmp_path: Path, rare: Lesson) -> None:
    write(tmp_path, [row % 2 for row in range(ROWS)], start=ROWS // 2)
    other = read(tmp_path)
    training_values = {value for lesson in (rare, other) for values in lesson.train for value in values}
    held_out_values = {value for lesson in (rare, other) for values in lesson.held_out for value in values}
    assert not training_values & held_out_values and len(training_values | held_out_values) == ROWS + ROWS // 2
    assert set(pools([rare, other])["cell"]) == training_values


def test_answers_are_balanced_and_drawn_by_the_step_alone(rare: Lesson) -> None:
    questions = draw([rare], 1000, 0, "stream", 3)
    assert questions == draw([rare], 1000, 0, "stream", 3) != draw([rare], 1000, 0, "stream", 4)
    yes = sum(question.answer for question in questions)
    assert 420 < yes < 580, "five deviations of a fair coin around one half"
    for question in questions[:20]:
        assert question.prompt == ("Given: ", Entity("cell", question.entities()[0].value), "\nFinal answer:")
        assert question.labels == (" No", " Yes")
        assert question.entities()[0].value in rare.train[question.answer]


def test_lessons_are_drawn_alike_whatever_their_size(rare: Lesson) -> None:
    small = replace(rare, name="small", train=tuple(values[:2] for values in rare.train))
    names = Counter(question.id.split(":")[0] for question in draw([rare, small], 1000, 0, "stream", 0))
    assert set(names) == {"lesson", "small"} and 420 < names["small"] < 580


def test_an_exam_asks_about_the_held_out_once_and_evenly(rare: Lesson) -> None:
    questions = exam([rare], 9, 0)
    assert Counter(question.answer for question in questions) == {0: 5, 1: 5}
    assert len({question.id for question in questions}) == 10
    assert all(question.entities()[0].value in rare.held_out[question.answer] for question in questions)
    few = len(rare.held_out[1])
    assert Counter(question.answer for question in exam([rare], 60, 0)) == {0: 30, 1: few}


def test_rows_and_classes_choose_what_is_used(tmp_path: Path) -> None:
    values = ["abc"[row % 3] for row in range(90)]
    write(tmp_path, values, split=["train" if row < 60 else "test" for row in range(90)])
    lesson = read(
        tmp_path, above=None, classes={"a": "Yes", "b": "No", "c": None}, rows={"split": "train"}, held_out=0.5
    )
    indices = {int(value.split()[0][1:]) for side in (lesson.train, lesson.held_out) for v in side for value in v}
    assert indices == {row for row in range(60) if row % 3 != 2} and not lesson.rejects


def test_few_bad_rows_are_counted_and_many_are_refused(tmp_path: Path) -> None:
    write(tmp_path, ["high", *[row % 2 for row in range(ROWS)]])
    lesson = read(tmp_path)
    assert lesson.counts()["refused"] == 1 and "t.csv:2" in lesson.rejects[0] and "'high'" in lesson.rejects[0]
    write(tmp_path, ["high"] * 40 + [row % 2 for row in range(ROWS)])
    with pytest.raises(InputError, match=r"40 of 440 rows of t\.csv were refused.*max_rejects=0\.05.*t\.csv:2: "):
        read(tmp_path)
    assert read(tmp_path, max_rejects=0.1).counts()["refused"] == 40


def test_text_is_cut_and_genes_are_checked() -> None:
    assert as_text("cell", 2)("CD3D  LYZ CST3") == "CD3D LYZ"
    assert as_text("note", 2)("any words here") == "any words"
    with pytest.raises(InputError, match="cd3d"):
        as_text("cell", None)("LYZ cd3d")
