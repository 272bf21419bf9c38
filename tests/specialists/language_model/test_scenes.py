"""Facts in words about perceived entities: right answers, both sides held out, nothing to guess from one side."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Answer, Entity
from esmerge.specialists.families.language_model.forms import FormSettings
from esmerge.specialists.families.language_model.lessons import Lesson, LessonSettings, as_text, read_lesson
from esmerge.specialists.families.language_model.scenes import Scenes
from esmerge.specialists.families.language_model.teaching import interviews

CLASSES = ("A", "B", "C", "D", "E")
FORM = FormSettings(
    ["Binds {yes}, but not {no}."], ["\nCell: {name}. Bound?"], {name: name for name in (*CLASSES, "F")}
)
TRAIN, HELD_OUT = (tuple((f"{name}{side}1", f"{name}{side}2") for name in CLASSES) for side in "th")
LESSON = Lesson("kind", "x", "cell", "\nCell: {cell}. Bound?", tuple(f" {name}" for name in CLASSES), TRAIN, HELD_OUT)


def truth(fact: str, entity: str) -> bool:
    match = re.fullmatch(r"Binds (.*), but not (.*)\.", fact)
    assert match is not None
    yes, no = (set(re.split(", | and | or ", part)) for part in match.groups())
    assert (entity[0] in yes) != (entity[0] in no)
    return entity[0] in yes


def test_every_perceived_entity_is_answered_as_the_fact_says() -> None:
    for fact, *rest in Scenes(LESSON, FORM, 0).draw(50, 3, "stream", 0):
        assert len(rest) in (8, 12) and "F" not in str(fact), "two or three questions of four segments"
        for before, entity, after, answer in zip(rest[::4], rest[1::4], rest[2::4], rest[3::4], strict=True):
            assert (before, after) == ("\nCell: ", ". Bound?") and isinstance(entity, Entity)
            assert entity.value[1] == "t" and answer == Answer(" Yes" if truth(str(fact), entity.value) else " No")


def test_an_exam_asks_each_unseen_fact_of_two_unseen_entities() -> None:
    pairs = Scenes(LESSON, FORM, 0).matched(60)
    taught = {sequence[0] for step in range(20) for sequence in Scenes(LESSON, FORM, 0).draw(20, 2, "s", step)}
    assert len(pairs) == 30
    for no, yes in pairs:
        assert no.prompt[0] == yes.prompt[0] not in taught
        for example, answer in ((no, 0), (yes, 1)):
            (entity,) = example.entities()
            assert entity.value[1] == "h" and truth(str(example.prompt[0]), entity.value) == answer == example.answer


def test_told_lessons_get_their_share_of_a_batch() -> None:
    plain = Lesson("plain", "x", "cell", "Cell: {cell}?", (" No", " Yes"), TRAIN[:2], HELD_OUT[:2])
    batch = interviews([plain], [Scenes(LESSON, FORM, 0)], 5, 2, 0, "stream")(0)
    assert [str(sequence[0]).startswith("Binds") for sequence in batch] == [True] * 2 + [False] * 3
    alone = interviews([], [Scenes(LESSON, FORM, 0)], 5, 2, 0, "stream")(0)
    assert all(str(sequence[0]).startswith("Binds") for sequence in alone)


def test_labels_that_the_form_does_not_know_are_refused() -> None:
    strange = Lesson("kind", "x", "cell", "{cell}?", (" A", " B", " C", " Z"), TRAIN[:4], HELD_OUT[:4])
    with pytest.raises(ConfigError, match="lessons.kind: Z is no class of its form, which has A, B"):
        Scenes(strange, FORM, 0)


def test_a_table_of_few_entities_or_of_the_program_itself_may_be_told(tmp_path: Path) -> None:
    told = {"expert": "p", "modality": "protein", "answer": "enzyme", "prompt": "{protein}?", "form": "inhibits"}
    enzymes = ["CYP1A2", "CYP2C9", "CYP2C19", "CYP2D6", "CYP3A4"]
    settings = LessonSettings(
        **told, table="esmerge:cyp_sequences.csv", entity="sequence", labels=enzymes, hold_out=False,
        classes={name: name for name in enzymes},
    )  # fmt: skip
    lesson = read_lesson("isoform", settings, tmp_path, as_text("protein", None), 0.2, 0)
    shipped = pd.read_csv(Path(__file__).parents[3] / "src" / "esmerge" / "data" / "cyp_sequences.csv")
    assert lesson.train == lesson.held_out and lesson.form == "inhibits"
    assert {values[0] for values in lesson.train} == set(shipped["sequence"])
    with pytest.raises(ConfigError, match="hold_out=false and no form"):
        LessonSettings(**{**told, "form": None}, table="t", entity="s", labels=["A", "B"], contains="x", hold_out=False)
