"""Lessons that are read as text are held against the backbone's positions before anything is trained."""

from __future__ import annotations

import warnings

import pytest
from tests import small

from esmerge.core.prompts import Entity
from esmerge.core.rng import generator
from esmerge.model.backbone import Backbone
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.specialists.families.panels.lengths import check_texts, longest_sequence
from esmerge.specialists.families.panels.lessons import Identity, Lesson, Relation
from esmerge.specialists.families.panels.wording import Wording

WORDING = Wording("toy", "drug : ", " cell : ", 3, ("ALB", "TTR", "KRT5", "KRT14"))
ANSWERS = dict(zip(WORDING.names, (True, False, True, False), strict=True))
LESSONS: dict[str, Lesson] = {
    "first": Relation("first", "molecule", WORDING, {"not at all": ANSWERS, "drug " * 20: ANSWERS}, []),
    "second": Identity("second", "cell", WORDING, {name: [name + " cell" * 10] for name in WORDING.names}, []),
}


def reading(positions: int) -> Backbone:
    body = small.backbone()
    body.model.config.max_position_embeddings = positions
    return body


def length(body: Backbone, prompt: tuple[object, ...]) -> int:
    (encoded,) = PromptEncoder(body, {}).encode([prompt])  # type: ignore[list-item]
    return len(encoded.ids)


@pytest.mark.parametrize("name", LESSONS)
def test_the_longest_sequence_bounds_all_that_is_drawn(name: str) -> None:
    body, lesson = reading(1000), LESSONS[name]
    bounds = {value: length(body, longest_sequence(lesson, value, 2)) for value in lesson.values()}
    sequences = lesson.draw(30, 2, 0.0, generator(0, "s"), 0)
    for taught in sequences:
        values = [part.value for part in taught.sequence if isinstance(part, Entity)]
        assert length(body, taught.sequence) <= max(bounds[value] for value in values)


def test_texts_that_do_not_fit_are_named_and_counted() -> None:
    body, lesson = reading(16), LESSONS["first"]
    with pytest.warns(UserWarning, match=r"lesson 'first', molecule drug drug .* made for 16 .*: 1 of 2 prompts are"):
        check_texts([lesson], body, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_texts(list(LESSONS.values()), reading(1000), 5)
