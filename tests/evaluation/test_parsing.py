"""Answers as models write them, by hand; and that no dress of a label hides it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esmerge.core.errors import InputError
from esmerge.evaluation.parsing import parse_answer

INTERACTS = ("Does not interact", "Interacts")
INHIBITS = ("Does not inhibit", "Inhibits")
SUBSTRATE = ("Not a substrate", "Substrate")
CELL = ("Resistant", "Sensitive")


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        (" Interacts", INTERACTS, "Interacts"),
        ("does NOT interact.", INTERACTS, "Does not interact"),
        ("Does not interact", ("Interact", "Does not interact"), "Does not interact"),
        ("Final answer: Does not inhibit", INHIBITS, "Does not inhibit"),
        ("It binds well.\nFinal answer:\n\n  **Inhibits**", INHIBITS, "Inhibits"),
        ("FINAL  ANSWER : “Inhibits”", INHIBITS, "Inhibits"),
        ("**Final Answer:** Inhibits", INHIBITS, "Inhibits"),
        ("**Final answer**: Inhibits", INHIBITS, "Inhibits"),
        ("'Not-a-substrate'", SUBSTRATE, "Not a substrate"),
        ("The molecule is not a substrate of it.", SUBSTRATE, "Not a substrate"),
        ("The molecule is a substrate.", SUBSTRATE, "Substrate"),
        ("The answer is: Sensitive", CELL, "Sensitive"),
        ("Sensitive\nResistant", CELL, "Sensitive"),
        ("Sensitive. The cell is not resistant.", CELL, "Sensitive"),
        ("Sensitive, sensitive", CELL, "Sensitive"),
        ("Inhibits Does not inhibit Inhibits", INHIBITS, "Inhibits"),
        ("yes ; drug : no", ("no", "yes"), "yes"),
        ("CD4+", ("CD4", "CD4+"), "CD4+"),
        ("CD4", ("CD4+", "CD4"), "CD4"),
        ("T cell", ("T", "T cell"), "T cell"),
        ("\n\n Ｓｅｎｓｉｔｉｖｅ", CELL, "Sensitive"),
    ],
)
def test_an_answer_is_read(text: str, labels: tuple[str, ...], expected: str) -> None:
    assert parse_answer(text, labels) == expected
    assert parse_answer(text, labels[::-1]) == expected


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("", INTERACTS),
        (" \n \t", INTERACTS),
        ("I cannot tell", INTERACTS),
        ("Interactsville", INTERACTS),
        ("Does not", INTERACTS),  # cut off
        ("It does not really interact", ("Interact", "Does not interact")),
        ("Not sensitive", CELL),
        ("The cell isn’t sensitive", CELL),
        ("Non-substrate", SUBSTRATE),
        ("Sensitive or Resistant", CELL),
        ('"Inhibits" or "Does not inhibit"', INHIBITS),
        ("Interacts / Does not interact", INTERACTS),
        ("Interacts, or does not interact", INTERACTS),
        ("It is sensitive and then resistant", CELL),
        ("Final answer:", CELL),
        ("Sensitive\nFinal answer: unknown", CELL),
        ("unsure\nSensitive", CELL),  # only the answer's own line counts
    ],
)
def test_what_cannot_be_told_is_no_answer(text: str, labels: tuple[str, ...]) -> None:
    assert parse_answer(text, labels) == parse_answer(text, labels[::-1]) == ""


def test_after_a_prompt_that_asks_for_it_the_answer_comes_first() -> None:
    text = " Inhibits\n\nA drug molecule is given.\nFinal answer: Does not inhibit"
    assert parse_answer(text, INHIBITS, prompt="Reply.\nFinal answer:") == "Inhibits"
    assert parse_answer(text, INHIBITS, prompt="Reply.\nFinal answer: ") == "Inhibits"
    assert parse_answer(text, INHIBITS, prompt="Final answer: Inhibits\nAnd this one? ") == "Does not inhibit"
    assert parse_answer(text, INHIBITS) == "Does not inhibit"


@pytest.mark.parametrize("labels", [("T", "t"), ("yes", " "), ("a", "A "), ("", "no")])
def test_labels_that_cannot_be_read_apart_are_refused(labels: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="to differ in case only.*compute.scoring=loglik"):
        parse_answer("anything", labels)


@given(
    label=st.sampled_from((*INTERACTS, *SUBSTRATE)),
    case=st.sampled_from((str.lower, str.upper, str.title, str)),
    dress=st.sampled_from(("{}", '"{}"', "'{}'.", "**{}**", "({})", "- {}", "`{}`!", "“{}”", "[{}]", "{}; because")),
    before=st.sampled_from(("", " ", "\n", "Reasons.\nFinal answer: ", "final answer:\n")),
    after=st.sampled_from(("", " ", "\n", "\nFinal answer: Interacts", "\nNot a substrate")),
)
def test_no_dress_hides_a_label(label: str, case, dress: str, before: str, after: str) -> None:
    labels = INTERACTS if label in INTERACTS else SUBSTRATE
    if "inal answer" in after and not before.strip():
        return  # then the later one is the only answer
    assert parse_answer(before + dress.format(case(label)) + after, labels) == label


@given(text=st.text(max_size=80))
def test_any_text_gives_a_label_or_nothing(text: str) -> None:
    assert parse_answer(text, CELL) in ("", *CELL)
