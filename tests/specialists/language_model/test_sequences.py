"""Several questions about one entity, and the matched exam."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from esmerge.core.prompts import Answer, Entity
from esmerge.core.rng import generator
from esmerge.specialists.families.language_model.lessons import Lesson
from esmerge.specialists.families.language_model.sequences import Interview, matched

ENTITIES = [f"e{index}" for index in range(200)]
TRUTH = {
    name: dict(zip(ENTITIES, generator(0, name).integers(2, size=len(ENTITIES)).tolist(), strict=True))
    for name in ("A", "B", "C")
}


def lesson(name: str, beginning: str = "Given: ") -> Lesson:
    sides = [tuple(tuple(e for e in part if TRUTH[name][e] == label) for label in (0, 1))
             for part in (ENTITIES[:100], ENTITIES[100:])]  # fmt: skip
    return Lesson(name, "x", "thing", f"{beginning}{{thing}}\n{name}?", (" No", " Yes"), *sides)


LESSONS = [lesson("A"), lesson("B"), lesson("C", "Another: ")]


def test_an_entity_stands_once_before_all_questions_about_it_with_their_right_answers() -> None:
    lengths = Counter()
    for sequence in Interview(LESSONS).draw(200, 3, 0, "stream", 0):
        start, entity, *rest = sequence
        assert isinstance(entity, Entity) and entity.value in ENTITIES[:100]
        asked = [str(question).strip().removesuffix("?") for question in rest[::2]]
        assert len(set(asked)) == len(asked) and all(isinstance(answer, Answer) for answer in rest[1::2])
        assert [answer.text for answer in rest[1::2]] == [(" No", " Yes")[TRUTH[name][entity.value]] for name in asked]
        assert set(asked) == {"C"} if start == "Another: " else set(asked) == {"A", "B"}
        lengths[tuple(asked)] += 1
    assert lengths["A", "B"] > 20 and lengths["B", "A"] > 20, "in either order"
    assert all(len(sequence) == 4 for sequence in Interview(LESSONS).draw(9, 1, 0, "stream", 0))


def test_neither_entity_nor_lesson_tells_the_answer_of_a_matched_question() -> None:
    lessons = [lesson(name) for name in "ABC"]
    pairs = matched(lessons, 60, 0)
    assert 40 <= 2 * len(pairs) <= 60
    by_lesson: dict[str, Counter[int]] = {name: Counter() for name in "ABC"}
    for no, yes in pairs:
        (entity,) = {example.entities()[0].value for example in (no, yes)}
        assert entity in ENTITIES[100:] and (no.answer, yes.answer) == (0, 1)
        for example in (no, yes):
            name = example.id.split(":")[0]
            assert TRUTH[name][entity] == example.answer
            by_lesson[name][example.answer] += 1
    assert all(counts[0] == counts[1] > 0 for counts in by_lesson.values())
    assert len({no.entities()[0].value for no, _ in pairs}) == len(pairs), "no entity twice"
    assert matched([lesson("A")], 60, 0) == []


def test_lessons_of_other_labels_are_no_match() -> None:
    other = replace(lesson("B"), labels=(" Small", " Large"))
    third = replace(lesson("C"), labels=(" A", " B", " C"))
    assert matched([lesson("A"), other], 60, 0) == matched([lesson("A"), third], 60, 0) == []
