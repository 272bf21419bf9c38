from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from src.errors import InputError
from src.specialists.pieces import Entity, Example, Reject
from src.tasks import Request
from src.tasks.assemble import TableSettings, assemble

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
