from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from src.errors import ConfigError, InputError
from src.specialists.pieces import Entity, Example, Reject
from src.tasks import Request
from src.tasks.assemble import TableSettings, assemble, entity_columns, listing

SETTINGS = TableSettings(prompt={"english": "{molecule}:"}, labels={"english": ["No", "Yes"]})


def frame(**changes: list) -> pd.DataFrame:
    columns = {
        "row": ["t:2", "t:3", "t:4"],
        "side": ["train", "validation", "test"],
        "answer": [0, 1, 1],
        "group": ["g", "g", "h"],
        "key": ["a", "b", "c"],
        "molecule": ["C", "CC", "CCC"],
    }
    return pd.DataFrame({**columns, **changes})


def test_rows_become_examples_of_their_side(ask: Callable[..., Request]) -> None:
    rejects = [Reject("t:5", "bad")]
    made = assemble(frame(), ("molecule",), SETTINGS, ask(title="Toy", family="drug_drug"), "sum", rejects)
    assert made.test == (Example("t:4", (Entity("molecule", "CCC"), ":"), (" No", " Yes"), 1, "h"),)
    assert (made.train[0].id, made.validation[0].id) == ("t:2", "t:3")
    assert (made.name, made.title, made.family, made.checksum) == ("toy", "Toy", "drug_drug", "sum")
    assert made.labels == ("No", "Yes") and made.rejects == tuple(rejects)


def test_a_key_on_two_sides_is_refused(ask: Callable[..., Request]) -> None:
    with pytest.raises(InputError, match="'toy': 1 key.*'a'"):
        assemble(frame(key=["a", "b", "a"]), ("molecule",), SETTINGS, ask(), "sum", [])


def test_several_entities_of_one_modality_have_numbered_columns(ask: Callable[..., Request]) -> None:
    pairs = frame(molecule_1=["C", "CC", "CCC"], molecule_2=["O", "OO", "OOO"], cell=["A", "B", "D"])
    settings = TableSettings(prompt={"english": "{molecule_1}+{molecule_2} on {cell}:"}, labels={"english": ["N", "Y"]})
    made = assemble(pairs, ("molecule", "molecule", "cell"), settings, ask(), "sum", [])
    drugs = (Entity("molecule", "CCC"), "+", Entity("molecule", "OOO"))
    assert made.test[0].prompt == (*drugs, " on ", Entity("cell", "D"), ":")


@pytest.mark.parametrize(
    ("modalities", "columns"),
    [
        (["molecule"], ["molecule"]),
        (["molecule", "protein"], ["molecule", "protein"]),
        (["molecule", "cell", "molecule", "molecule"], ["molecule_1", "cell", "molecule_2", "molecule_3"]),
    ],
)
def test_columns_are_numbered_only_where_a_modality_repeats(modalities: list[str], columns: list[str]) -> None:
    assert entity_columns(modalities) == columns


@pytest.mark.parametrize(
    ("labels", "text"), [(["A"], '"A"'), (["A", "B"], '"A" or "B"'), (["A", "B", "C"], '"A", "B" or "C"')]
)
def test_a_listing_offers_every_answer(labels: list[str], text: str) -> None:
    assert listing(labels) == text


def test_many_answers_are_listed_where_the_prompt_says_so(ask: Callable[..., Request]) -> None:
    settings = TableSettings(prompt={"english": "{molecule}: {answers}."}, labels={})
    made = assemble(frame(answer=[0, 1, 2]), ("molecule",), settings, ask(), "sum", [], ["Low", "Mid", "High"])
    assert made.labels == ("Low", "Mid", "High")
    assert made.test[0].prompt == (Entity("molecule", "CCC"), ': "Low", "Mid" or "High".')
    assert (made.test[0].labels, made.test[0].answer) == ((" Low", " Mid", " High"), 2)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["No", "No"], "No, No: expected two or more different"),
        (["No"], "No: expected two or more"),
        ([], "empty: expected two"),
        (["No", "Yes", "Maybe"], "No, Yes, Maybe: expected 2"),
    ],
)
def test_labels_that_do_not_fit_the_rows_are_refused(
    ask: Callable[..., Request], labels: list[str], message: str
) -> None:
    settings = TableSettings(prompt={"english": "{molecule}:"}, labels={"english": labels})
    with pytest.raises(ConfigError, match=f"'toy': labels.english is {message}"):
        assemble(frame(), ("molecule",), settings, ask(), "sum", [])
