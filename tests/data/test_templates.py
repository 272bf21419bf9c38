from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Entity
from esmerge.data.templates import answers, few_shot, fill, in_language

DRUG, OTHER, CELL = Entity("molecule", "CCO"), Entity("molecule", "CN"), Entity("cell", "TP53 EGFR")


def test_text_and_entities_alternate() -> None:
    segments = fill("drug : {molecule} ; cell : {cell} ; kill ? ", {"molecule": [DRUG], "cell": [CELL]})
    assert segments == ("drug : ", DRUG, " ; cell : ", CELL, " ; kill ? ")


def test_several_entities_of_a_modality_are_numbered() -> None:
    segments = fill("{molecule_2}{molecule_1} in {cell}", {"molecule": [DRUG, OTHER], "cell": [CELL]})
    assert segments == (OTHER, DRUG, " in ", CELL)


@pytest.mark.parametrize(
    ("template", "entities", "fragment"),
    [
        ("{molecule} and {protein}", {"molecule": [DRUG]}, "{protein}"),
        ("{molecule}", {"molecule": [DRUG], "cell": [CELL]}, "{cell}"),
        ("{molecule_1}", {"molecule": [DRUG, OTHER]}, "{molecule_2}"),
        ("{molecule}", {"molecule": [DRUG, OTHER]}, "{molecule}"),
        ("{molecule_1}", {"molecule": [DRUG]}, "{molecule_1}"),
        ("{molecule} {", {"molecule": [DRUG]}, "stray brace"),
        ("{molecule", {"molecule": [DRUG]}, "stray brace"),
        ("{}", {"molecule": [DRUG]}, "{}"),
        ("no place", {"molecule": [DRUG]}, "{molecule}"),
        ("{cell}", {}, "{cell}"),
    ],
)
def test_a_template_that_does_not_fit_is_refused_by_name(template: str, entities: dict, fragment: str) -> None:
    with pytest.raises(ConfigError) as error:
        fill(template, entities)
    assert fragment in str(error.value).split("prompt", 1)[1].replace(repr(template), "", 1)


@given(st.text(st.characters(exclude_characters="{}")), st.text(st.characters(exclude_characters="{}")))
def test_no_text_is_lost(before: str, after: str) -> None:
    segments = fill(before + "{molecule}" + after, {"molecule": [DRUG]})
    assert (
        "".join(segment.value if isinstance(segment, Entity) else segment for segment in segments)
        == before + "CCO" + after
    )
    assert "" not in segments


def test_one_blank_stands_between_prompt_and_answer() -> None:
    assert answers(["no", "yes"], "bind ? ") == ("no", "yes")
    assert answers(["no", "yes"], "Final answer:") == (" no", " yes")


def test_a_language_without_wording_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="'toy' has no prompt for language 'textbook', has english"):
        in_language("prompt", {"english": "x"}, "textbook", "toy")


@pytest.mark.parametrize(
    ("by_language", "expected"), [({"english": "x"}, "x"), ({"english": "x", "brief": "y"}, "y"), ({"brief": "y"}, "y")]
)
def test_without_a_brief_wording_the_english_one_is_taken(by_language: dict[str, str], expected: str) -> None:
    assert in_language("prompt", by_language, "brief", "toy") == expected


def test_the_brief_wording_stands_in_for_no_other_and_is_refused_without_english() -> None:
    for language in ("english", "textbook"):
        with pytest.raises(ConfigError, match=f"no prompt for language '{language}', has brief"):
            in_language("prompt", {"brief": "y"}, language, "toy")
    with pytest.raises(ConfigError, match="has textbook"):
        in_language("prompt", {"textbook": "z"}, "brief", "toy")


def test_solved_examples_come_before_the_question_each_with_its_answer() -> None:
    first, second = (fill("drug {molecule} ?", {"molecule": [entity]}) for entity in (DRUG, OTHER))
    segments = few_shot(second, [(first, " yes"), (second, " no")], "\n")
    assert segments == ("drug ", DRUG, " ?", " yes", "\n", "drug ", OTHER, " ?", " no", "\n", "drug ", OTHER, " ?")
    assert few_shot(second, [], "\n") == second
