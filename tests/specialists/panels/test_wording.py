"""Text-only questions: the answer stands in the record, records are held out whole, answers are balanced."""

from __future__ import annotations

from collections import Counter

import pytest

from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Answer
from esmerge.core.rng import generator
from esmerge.specialists.families.panels.wording import (
    FEWEST,
    Wording,
    draw_lines,
    draw_record,
    read_wording,
    side_of,
    text_batch,
    text_exam,
)

ENZYMES = Wording("enzymes", "Molecule: ", "\nEnzyme: ", 6, ("A1", "B2", "C3", "D4", "E5", "F6", "G7"))
FAMILIES = Wording("families", "Drug: ", "\nProtein: ", 6, ("kinases", "channels", "proteases", "receptors"))


def lines_of(record: str, wording: Wording) -> dict[str, str]:
    """Name -> answer, as a reader finds them."""
    assert record.startswith(wording.head)
    return dict(line.rsplit(" ", 1) for line in record.removeprefix(wording.head).split(", "))


def test_a_template_gives_the_words_around_both_entities() -> None:
    wording = read_wording("cyp_panel", "Molecule: {molecule}\nEnzyme: {protein}", 5)
    assert wording == Wording("cyp_panel", "Molecule: ", "\nEnzyme: ", 5)
    for template in ("Molecule: {molecule}", "{molecule} and {protein}?", "{a}{b}{c}"):
        with pytest.raises(ConfigError, match="must hold two placeholders, and end with the second"):
            read_wording("cyp_panel", template, 5)


def test_every_answer_of_a_text_stands_in_its_record() -> None:
    sizes, panels = Counter[int](), Counter[str]()
    for record, *segments in text_batch([ENZYMES, FAMILIES], 200, 3, 0, "stream", 0):
        wording = ENZYMES if str(record).startswith("Molecule") else FAMILIES
        statements, questions = lines_of(str(record), wording), segments[::2]
        assert set(statements.values()) == {"Yes", "No"} and FEWEST <= len(statements) <= wording.listed
        assert set(statements) <= set(wording.names) and len(set(questions)) == len(questions) <= 3
        for question, answer in zip(questions, segments[1::2], strict=True):
            assert answer == Answer(f" {statements[str(question).removeprefix(wording.middle)]}")
        sizes[len(statements)] += 1
        panels[wording.benchmark] += 1
    assert set(sizes) == {2, 3, 4, 5, 6} and min(panels.values()) > 60


def test_an_exam_asks_unseen_records_yes_and_no_in_turn() -> None:
    training_records = {
        frozenset(lines_of(str(sequence[0]), ENZYMES).items())
        for step in range(30)
        for sequence in text_batch([ENZYMES], 20, 1, 0, "s", step)
    }
    examples = text_exam([ENZYMES], 50, 0)["enzymes"]
    assert [example.answer for example in examples] == [0, 1] * 25
    for example in examples:
        record, question = map(str, example.prompt)
        statements = lines_of(record, ENZYMES)
        assert frozenset(statements.items()) not in training_records
        assert statements[question.removeprefix(ENZYMES.middle)] == ("No", "Yes")[example.answer]


def test_the_side_of_a_record_does_not_depend_on_its_order() -> None:
    lines = [("A1", True), ("B2", False), ("C3", False)]
    assert side_of(lines, 0) == side_of(lines[::-1], 0)
    rng, counts = generator(0, "records"), Counter[str]()
    for side in ("train", "held_out"):
        counts[side] = sum(side_of(draw_record(ENZYMES, rng, side, 0), 0) == side for _ in range(20))
    assert counts == {"train": 20, "held_out": 20}


def test_lines_are_drawn_once_each_and_a_coin_decides_between_the_answers() -> None:
    lines = [(f"n{index}", index < 2) for index in range(40)]
    rng = generator(0, "lines")
    first = [draw_lines(lines, 1, rng)[0][1] for _ in range(400)]
    assert 150 < sum(first) < 250, "five deviations of a fair coin, though one line in twenty says yes"
    drawn_lines = draw_lines(lines, 100, rng)
    assert sorted(drawn_lines) == sorted(lines) and draw_lines([], 3, rng) == []


def test_what_is_drawn_depends_on_the_step_alone() -> None:
    assert text_batch([ENZYMES], 5, 3, 0, "s", 7) == text_batch([ENZYMES], 5, 3, 0, "s", 7)
    assert text_batch([ENZYMES], 5, 3, 0, "s", 7) != text_batch([ENZYMES], 5, 3, 0, "s", 8)
