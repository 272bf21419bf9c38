"""Training sequences: what is perceived is answered as it is known; where it has a name, the words stand beside it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from esmerge.core.prompts import Answer, Entity, Example
from esmerge.core.rng import generator
from esmerge.model.imitation import Taught
from esmerge.specialists.families.panels.foreign import FOREIGN, ForeignEncoder, foreign
from esmerge.specialists.families.panels.lessons import Identity, Relation
from esmerge.specialists.families.panels.loading import exam_pairs
from esmerge.specialists.families.panels.trunks import UNKNOWN, answers_loss
from esmerge.specialists.families.panels.wording import Wording, text_batch

NAMES = ("A1", "B2", "C3", "D4", "E5")
WORDING = Wording("enzymes", "Molecule: ", "\nEnzyme: ", 4, NAMES)
ANSWERS = {
    f"m{row}": {name: bool((row + column) % 2) for column, name in enumerate(NAMES) if (row * column) % 3 != 1}
    for row in range(20)
}
ENTITIES = {name: [f"{name}-{copy}" for copy in range(2)] for name in NAMES}


def test_a_first_entity_is_asked_about_names_that_it_has_an_answer_to() -> None:
    lesson = Relation("inhibits", "molecule", WORDING, ANSWERS, [])
    positions: list[Counter[str]] = [Counter(), Counter()]
    question_count = 0
    for taught in lesson.draw(200, 3, 0.5, generator(0, "s"), 0):
        head, entity, *segments = taught.sequence
        assert head == "Molecule: " and isinstance(entity, Entity) and entity.modality == "molecule"
        names = [str(question).removeprefix("\nEnzyme: ") for question in segments[::2]]
        assert len(set(names)) == len(names) <= 3
        question_count += len(names)
        assert taught.imitates is None, "a first entity has no name"
        for name, answer in zip(names, segments[1::2], strict=True):
            assert answer == Answer(" Yes" if ANSWERS[entity.value][name] else " No")
        for counts, answer in zip(positions, segments[1::2], strict=False):
            counts[str(answer)] += 1
    assert all(min(counts.values()) > 60 for counts in positions), "either answer comes first, and second"
    assert question_count == 200 * 3


def test_answers_that_stand_already_tell_nothing_about_those_that_follow() -> None:
    rare = {f"m{row}": {f"n{column}": column == row % 8 for column in range(8)} for row in range(8)}
    even = {f"e{row}": {f"n{column}": (row + column) % 2 == 0 for column in range(8)} for row in range(8)}
    lesson = Relation("inhibits", "molecule", Wording("enzymes", "", "\n", 4, ()), rare | even, [])
    following: Counter[tuple[str, str]] = Counter()
    for taught in lesson.draw(2000, 2, 0.0, generator(0, "s"), 0):
        answers = [str(item) for item in taught.sequence if isinstance(item, Answer)]
        assert len(answers) <= (1 if Relation.perceived(taught).startswith("m") else 2)
        following.update(zip(answers[:-1], answers[1:], strict=True))
    counts = np.array(
        [[following[first, second] for second in {a for _, a in following}] for first in {a for a, _ in following}]
    )
    assert counts.shape == (2, 2) and counts.min() > 0.22 * counts.sum(), (
        "each is as likely as not, whatever came before"
    )


def test_a_belief_shares_the_answer_with_the_label() -> None:
    item = Taught(("", Entity("molecule", "m"), "\nEnzyme: A1", Answer(" Yes"), "\nEnzyme: B2", Answer(" No")))
    lesson = Relation("inhibits", "molecule", WORDING, ANSWERS, [])
    doubted = lesson.doubted(item, {"A1": 0.9, "B2": 0.4, "C3": 0.0}, 0.5)
    assert doubted.sequence == item.sequence and doubted.alternatives is not None
    assert [text for text, _ in doubted.alternatives] == [" No", " Yes"]
    assert [share for _, share in doubted.alternatives] == pytest.approx([0.5 * 0.1, 0.5 * 0.4])
    assert [share for _, share in lesson.doubted(item, {"A1": 1.0, "B2": 1.0}, 1.0).alternatives or ()] == [0.0, 1.0]


def test_a_second_entity_is_looked_up_in_a_record_and_so_is_its_name() -> None:
    lesson = Identity("enzyme", "protein", WORDING, ENTITIES, [])
    for taught in lesson.draw(100, 3, 0.0, generator(0, "s"), 0):
        record, *segments = taught.sequence
        assert taught.imitates is not None
        assert record == taught.imitates[0]
        statements = dict(line.rsplit(" ", 1) for line in str(record).removeprefix("Molecule: ").split(", "))
        questions, words = list(zip(*[iter(segments)] * 3, strict=True)), taught.imitates[1:]
        for (middle, entity, answer), question, expected in zip(questions, words[::2], words[1::2], strict=True):
            assert isinstance(entity, Entity) and middle == "\nEnzyme: " and answer == expected
            name = entity.value.split("-")[0]
            assert question == middle + name and answer == Answer(f" {statements[name]}")
    assert set(lesson.values()) == {value for values in ENTITIES.values() for value in values}


def test_the_name_of_what_has_one_is_to_be_said() -> None:
    lesson, named_count = Identity("enzyme", "protein", WORDING, ENTITIES, []), 0
    for taught in lesson.draw(200, 1, 0.5, generator(0, "s"), 0):
        _, middle, entity, *segments = taught.sequence
        assert isinstance(entity, Entity) and middle == "\nEnzyme: " and taught.imitates is not None
        name = entity.value.split("-")[0]
        if len(segments) == 2:
            named_count += 1
            assert segments == [" =", Answer(f" {name}")]
            assert taught.imitates[1:] == (f"\nEnzyme: {name} =", Answer(f" {name}"))
        else:
            assert segments[0] in (Answer(" Yes"), Answer(" No"))
    assert 70 < named_count < 130
    (text,) = text_batch([WORDING], 1, 3, 0, "s", 0, naming=1.0)
    assert all(str(item).endswith(" =") for item in text[1::2])
    assert list(text[2::2]) == [Answer(str(q).removeprefix("\nEnzyme:").removesuffix(" =")) for q in text[1::2]]


def test_foreign_tokens_stand_for_the_record_or_for_the_names_and_nothing_is_to_change() -> None:
    (text,) = text_batch([WORDING], 1, 3, 0, "s", 0)
    shapes = set()
    for draw in range(20):
        taught = foreign(text, WORDING, generator(0, "foreign", draw))
        assert taught.imitates == taught.sequence and not taught.answered
        answers = [segment for segment in taught.sequence if isinstance(segment, Answer)]
        assert answers == [segment for segment in text if isinstance(segment, Answer)]
        entities = [segment for segment in taught.sequence if isinstance(segment, Entity)]
        words = "".join(segment if isinstance(segment, str) else "<>" for segment in taught.sequence)
        shapes.add((words.startswith("Molecule: <>"), len(entities) == len(answers)))
        assert {entity.modality for entity in entities} == {FOREIGN}
    assert shapes == {(True, len(answers) == 1), (False, True)}
    encoder = ForeignEncoder(3, 2, 500, seed=0, device=torch.device("cpu"))
    first, second, *others = encoder.encode(["1", "1", *map(str, range(2, 20))])
    assert torch.equal(first, second) and not any(torch.equal(first, other) for other in others)
    assert {tuple(other.shape) for other in others} == {(3, 500), (6, 500)}
    assert float(first.std()) == pytest.approx(3**-0.5, rel=0.1)
    (elsewhere,) = ForeignEncoder(3, 2, 500, seed=0, device=torch.device("meta")).encode(["1"])
    assert elsewhere.device.type == "meta", "where the backbone is"


def test_exam_pairs_agree_in_all_but_the_last_line() -> None:
    def ask(identifier: str, value: str, name: str, answer: int) -> Example:
        return Example(identifier, ("Molecule: ", Entity("molecule", value), f"\nEnzyme: {name}"), ("N", "Y"), answer)

    examples = [ask("1", "m1", "A", 1), ask("2", "m2", "A", 0), ask("3", "m1", "B", 0), ask("4", "m1", "C", 0)]
    (pair,) = exam_pairs(examples)
    assert [example.id for example in pair] == ["3", "1"]
    texts = [
        Example(str(n), ("Molecule: A1 Yes, B2 No\nEnzyme: ", Entity("protein", v)), ("N", "Y"), n)
        for n, v in enumerate(("b", "a"))
    ]
    assert exam_pairs(texts) == [(texts[0], texts[1])]


def test_no_and_yes_weigh_the_same_and_unknown_answers_nothing() -> None:
    answers = torch.tensor([[1.0, 0.0, 0.0, UNKNOWN], [0.0, 0.0, UNKNOWN, UNKNOWN]])
    logits = torch.tensor(np.random.default_rng(0).normal(size=(2, 4)), requires_grad=True)
    loss = answers_loss(logits, answers)
    share = torch.sigmoid(logits.detach()).numpy()
    no = -np.log(1 - share[[0, 0, 1, 1], [1, 2, 0, 1]]).mean()
    assert float(loss.detach()) == pytest.approx(no - np.log(share[0, 0]))
    loss.backward()
    assert logits.grad is not None and bool((logits.grad[answers == UNKNOWN] == 0).all())
