"""Text-only questions: the answer stands in the fact, facts are held out whole, answers are balanced."""

from __future__ import annotations

import re

import pytest

from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Answer
from esmerge.core.rng import generator
from esmerge.specialists.families.language_model.forms import (
    FormSettings,
    draw_scene,
    reading_batch,
    reading_exam,
    side_of,
)

NAMES = {"EGFR": "kinases", "ABL1": "kinases", "renin": "proteases", "hERG": "channels", "D2": "receptors"}
FORM = FormSettings(["It binds {yes}, but not {no}.\n", "It does not bind {no}; it binds {yes}.\n"], ["{name}?"], NAMES)


def lists(fact: str) -> tuple[set[str], set[str]]:
    """What holds and what does not, read from the fact as a reader would."""
    first = re.fullmatch(r"It binds (?P<yes>.*), but not (?P<no>.*)\.\n", fact)
    match = first or re.fullmatch(r"It does not bind (?P<no>.*); it binds (?P<yes>.*)\.\n", fact)
    assert match is not None, fact
    return tuple(set(re.split(", | and | or ", match[side])) for side in ("yes", "no"))  # type: ignore[return-value]


def test_every_answer_stands_in_its_fact() -> None:
    for fact, *rest in reading_batch({"binds": FORM}, 60, 4, 0, "stream", 0):
        yes, no = lists(str(fact))
        assert not yes & no
        asked = list(zip(rest[::2], rest[1::2], strict=True))
        assert 2 <= len(asked) <= 4
        for question, answer in asked:
            kind = NAMES[str(question).removesuffix("?")]
            assert answer == Answer(" Yes") if kind in yes else answer == Answer(" No") and kind in no


def test_the_first_answer_says_yes_half_of_the_time() -> None:
    rng = generator(0, "scenes")
    first = [draw_scene(FORM, 1, rng, "train", 0).asked[0][1] for _ in range(1000)]
    assert 420 < sum(first) < 580, "five deviations of a fair coin around one half"


def test_facts_of_the_exam_are_never_taught_whatever_their_order() -> None:
    def key(fact: str) -> tuple[frozenset[str], frozenset[str]]:
        yes, no = lists(fact)
        return frozenset(yes), frozenset(no)

    taught = {
        key(str(sequence[0])) for step in range(40) for sequence in reading_batch({"b": FORM}, 20, 2, 0, "s", step)
    }
    examined = {key(str(example.prompt[0])) for example in reading_exam({"b": FORM}, 60, 0)["b"]}
    assert examined and not taught & examined
    assert side_of(["a", "b", "c"], 2, 0) == side_of(["b", "a", "c"], 2, 0)


def test_what_is_drawn_depends_on_the_step_alone() -> None:
    assert reading_batch({"b": FORM}, 5, 3, 0, "s", 7) == reading_batch({"b": FORM}, 5, 3, 0, "s", 7)
    assert reading_batch({"b": FORM}, 5, 3, 0, "s", 7) != reading_batch({"b": FORM}, 5, 3, 0, "s", 8)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"facts": ["It binds {yes}.\n"]}, "must hold {yes} and {no}"),
        ({"questions": ["Bound?"]}, "must hold {name}"),
        ({"names": {"EGFR": "kinases", "renin": "proteases"}}, "four classes"),
        ({"facts": []}, "needs a fact"),
    ],
)
def test_forms_that_cannot_be_asked_are_refused(changes: dict[str, object], words: str) -> None:
    told = {"facts": FORM.facts, "questions": FORM.questions, "names": FORM.names}
    with pytest.raises(ConfigError, match=words):
        FormSettings(**{**told, **changes})  # type: ignore[arg-type]
