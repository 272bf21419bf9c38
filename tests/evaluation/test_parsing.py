"""Answers as models write them, by hand; and that no dress of a label hides it."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from esmerge.core.errors import InputError
from esmerge.evaluation.parsing import parse_answer

INTERACTS = ("Does not interact", "Interacts")
INHIBITS = ("Does not inhibit", "Inhibits")
SUBSTRATE = ("Not a substrate", "Substrate")
CELL = ("Resistant", "Sensitive")
BRIEF = ("No", "Yes")
PAIR = ("Antagonistic", "Synergistic")
TRUTH = ("False", "True")
CELL_TYPES = ("Dendritic", "Monocyte", "B", "T", "NK")


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
        ("Inhibits Does not inhibit Inhibits", INHIBITS),
        ("Final answer:", CELL),
        ("Sensitive\nFinal answer: unknown", CELL),
        ("unsure\nSensitive", CELL),  # only the answer's own line counts
    ],
)
def test_what_cannot_be_told_is_no_answer(text: str, labels: tuple[str, ...]) -> None:
    assert parse_answer(text, labels) == parse_answer(text, labels[::-1]) == ""


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("Yes", BRIEF, "Yes"),
        ("yes.", BRIEF, "Yes"),
        ("**Yes**", BRIEF, "Yes"),
        ("The answer is: Yes", BRIEF, "Yes"),
        ("Answer: (A) Yes", BRIEF, "Yes"),
        ("Option B: Yes", BRIEF, "Yes"),
        ("1. Yes", BRIEF, "Yes"),
        ("<answer>Yes</answer>", BRIEF, "Yes"),
        ("$\\boxed{\\text{No}}$", BRIEF, "No"),
        ("Yes, it interacts", BRIEF, "Yes"),
        ("Great! Yes", BRIEF, "Yes"),
        ("Yes, because there is no evidence against it", BRIEF, "Yes"),
        ("Does it bind? Yes", BRIEF, "Yes"),
        ("Does it bind? No", BRIEF, "No"),
        ("Yes? No.", BRIEF, "No"),
        ("No, it does not interact", BRIEF, "No"),
        ("No it does not", BRIEF, "No"),
        ("No, it is unlikely to bind", BRIEF, "No"),
        ("No, there is no evidence", BRIEF, "No"),
        ("The answer is no", BRIEF, "No"),
        ("The answer is: No. There is no evidence.", BRIEF, "No"),
        ("no no no", BRIEF, "No"),
        ("No, not yes", BRIEF, "No"),
        ("Yes, not no", BRIEF, "Yes"),
        ("no doubt: yes", BRIEF, "Yes"),
        ("No doubt, it does: Yes", BRIEF, "Yes"),
        ("There is no question that it interacts", INTERACTS, "Interacts"),
        ("There is no question that it does not interact", INTERACTS, "Does not interact"),
        ("Without any doubt it interacts", INTERACTS, "Interacts"),
        ("It does not interact", INTERACTS, "Does not interact"),
        ("It doesn’t interact with the protein.", INTERACTS, "Does not interact"),
        ("it doesnt interact", INTERACTS, "Does not interact"),
        ("Does not interact, as it has no binding site", INTERACTS, "Does not interact"),
        ("Does not interact. No binding was seen.", INTERACTS, "Does not interact"),
        ("It isn't a substrate", SUBSTRATE, "Not a substrate"),
        ("Resistant, not sensitive", CELL, "Resistant"),
        ("Sensitive (not resistant)", CELL, "Sensitive"),
        ("Not sensitive but resistant", CELL, "Resistant"),
        ("Less sensitive, more resistant", CELL, "Resistant"),
        ("Sensitive rather than resistant", CELL, "Sensitive"),
        ("The cell line is drug-resistant.", CELL, "Resistant"),
        ("Is it sensitive or resistant? Sensitive", CELL, "Sensitive"),
        ("Is it sensitive? It is resistant.", CELL, "Resistant"),
        ("It is false", TRUTH, "False"),
        ("True, not false", TRUTH, "True"),
        ("The cell is a monocyte.", CELL_TYPES, "Monocyte"),
        ("(C) B", ("Alpha", "B"), "B"),
        ("NK cell, not T", CELL_TYPES, "NK"),
        ("Not dendritic, not monocyte, but B", CELL_TYPES, "B"),
    ],
)
def test_common_forms_of_an_answer_are_read(text: str, labels: tuple[str, ...], expected: str) -> None:
    assert {parse_answer(text, labels), parse_answer(f"Final answer: {text}", labels[::-1])} == {expected}


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("There is no evidence that the molecule interacts with the protein", INTERACTS),
        ("No evidence that it interacts", INTERACTS),
        ("Little evidence that it interacts", INTERACTS),
        ("It is unlikely that it interacts", INTERACTS),
        ("The drug hardly interacts", INTERACTS),
        ("It fails to show that it interacts", INTERACTS),
        ("I doubt that it interacts", INTERACTS),
        ("There is a low probability that it interacts", INTERACTS),
        ("It was ruled out that it interacts", INTERACTS),
        ("It is unclear whether it interacts", INTERACTS),
        ("Nothing says that it interacts", INTERACTS),
        ("Without a binding site it interacts?", INTERACTS),
        ("Interacts: no", INTERACTS),
        ("Interacts? No", INTERACTS),
        ("Interacts? No, it does not", INTERACTS),
        ("Interacts = false", INTERACTS),
        ("Interacts - no", INTERACTS),
        ("Interacts (no)", INTERACTS),
        ("Interacts is unlikely", INTERACTS),
        ("Interacts not", INTERACTS),
        ("Interacts with nothing", INTERACTS),
        ("Interacts. This is false.", INTERACTS),
        ("Interacts: 0.1", INTERACTS),
        ("Interacts ❌", INTERACTS),
        ("!Interacts", INTERACTS),
        ("Interacts != true", INTERACTS),
        ("¬Interacts", INTERACTS),
        ("Does not interact: no", INTERACTS),
        ("Does not interact? No", INTERACTS),
        ("Does not interact = false", INTERACTS),
        ("It is false that it does not interact", INTERACTS),
        ("It is unlikely that it does not interact", INTERACTS),
        ("That it does not interact is wrong", INTERACTS),
        ("Neither interacts nor does not interact", INTERACTS),
        ("The cell line is no longer sensitive", CELL),
        ("Less sensitive", CELL),
        ("Insensitive", CELL),
        ("far from sensitive", CELL),
        ("anything but sensitive", CELL),
        ("Sensitive? No, resistant", CELL),
        ("Sensitive, no: resistant", CELL),
        ("Sensitive. Actually, resistant.", CELL),
        ("Sensitive; not sensitive", CELL),
        ("not sensitive or resistant", CELL),
        ("neither sensitive nor resistant", CELL),
        ("not only sensitive but resistant", CELL),
        ("I am not sure. Sensitive", CELL),
        ("anti-synergistic", PAIR),
        ("non-synergistic", PAIR),
        ("No substrate", SUBSTRATE),
        ("not true", TRUTH),
        ("True: false", TRUTH),
        ("That is not false", TRUTH),
        ("Yes and no", BRIEF),
        ("Yes, no", BRIEF),
        ("Yes. No.", BRIEF),
        ("Yes. But no.", BRIEF),
        ("Yes, it does not interact", BRIEF),
        ("Yes?", BRIEF),
        ("Yes Question: does it bind? No", BRIEF),  # the model goes on to a question of its own
        ("not yes", BRIEF),
        ("not no", BRIEF),
        ("No evidence against it", BRIEF),
        ("No longer resistant", BRIEF),
        ("There is no reason to exclude it", BRIEF),
        ("Sample no. 5", BRIEF),
        ("B or T", CELL_TYPES),
        ("Not B, T or NK", CELL_TYPES),
    ],
)
def test_a_denied_or_doubted_label_is_no_answer(text: str, labels: tuple[str, ...]) -> None:
    assert {parse_answer(text, labels), parse_answer(f"Final answer: {text}", labels[::-1])} == {""}


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


DENIALS = (
    *("not", "never", "no longer", "without", "unlikely", "hardly", "scarcely", "less", "non-", "cannot be", "false:"),
    *(
        "not the",
        "isn't",
        "fails to be",
        "lacks",
        "rather than",
        "far from",
        "neither",
        "impossible:",
        "I doubt that it",
    ),
    *("There is no evidence that it", "nothing shows that it", "it is wrong that it", "it was ruled out that it"),
)
LABELS = (INTERACTS, INHIBITS, SUBSTRATE, CELL, PAIR, TRUTH, CELL_TYPES, BRIEF)
a_label = st.sampled_from([(label, labels) for labels in LABELS for label in labels])


@given(
    choice=a_label,
    denial=st.sampled_from(DENIALS),
    case=st.sampled_from((str.lower, str.upper, str.title, str)),
    dress=st.sampled_from(("{}", '"{}"', "**{}**", "({})", "{}.", "{}!", "`{}`, indeed")),
    before=st.sampled_from(("", "Final answer: ", "The answer is ", "The cell ")),
)
def test_a_denial_before_a_lone_label_never_leaves_that_label(
    choice: tuple[str, tuple[str, ...]], denial: str, case, dress: str, before: str
) -> None:
    label, labels = choice
    assume(denial.rstrip(":").casefold() != label.casefold())  # "False: False" says one thing twice
    assert parse_answer(before + case(f"{denial} {dress.format(label)}"), labels) != label


def test_a_label_that_is_said_twice_is_that_label() -> None:
    assert parse_answer("False: False", TRUTH) == "False"
    assert parse_answer("No: no", ("Yes", "No")) == "No"


@given(
    choice=a_label.filter(lambda choice: choice[0] not in ("No", "False")),  # "no: false" still says no
    link=st.sampled_from((": ", "? ", " = ", " - ", " is ", " (", "?\t")),
    verdict=st.sampled_from(("no", "No.", "false", "unlikely", "FALSE", "wrong.", "not", "incorrect, sorry")),
)
def test_a_denial_after_a_lone_label_never_leaves_that_label(
    choice: tuple[str, tuple[str, ...]], link: str, verdict: str
) -> None:
    label, labels = choice
    assert parse_answer(label + link + verdict, labels) != label


@given(choice=a_label, rest=st.text("abc notyesNOless.,:;?!()/- ", max_size=40))
def test_after_a_denied_label_nothing_makes_it_the_answer(choice: tuple[str, tuple[str, ...]], rest: str) -> None:
    label, labels = choice
    if label not in ("No", "B", "T"):  # which stand in the letters of the rest
        assert parse_answer(f"Not {label}. {rest}", labels) != label
