from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from esmerge.core.errors import ConfigError, InputError
from esmerge.core.prompts import Benchmark, Entity, Example, Reject
from esmerge.tasks.api import BenchmarkRequest
from esmerge.tasks.assemble import FEW, assemble_benchmark, entity_column_names, quoted_list
from esmerge.tasks.sources.annotation import AnnotationSettings
from esmerge.tasks.sources.cyp import CypSettings, cyp
from esmerge.tasks.sources.interactions import InteractionSettings
from esmerge.tasks.table_settings import TableSettings

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


def test_rows_become_examples_of_their_side(ask: Callable[..., BenchmarkRequest]) -> None:
    rejects = [Reject("t:5", "bad")]
    benchmark = assemble_benchmark(
        frame(), ("molecule",), SETTINGS, ask(title="Toy", family="drug_drug"), "sum", rejects
    )
    assert benchmark.test == (Example("t:4", (Entity("molecule", "CCC"), ":"), (" No", " Yes"), 1, "h"),)
    assert (benchmark.train[0].id, benchmark.validation[0].id) == ("t:2", "t:3")
    assert (benchmark.name, benchmark.title, benchmark.family, benchmark.checksum) == ("toy", "Toy", "drug_drug", "sum")
    assert benchmark.labels == ("No", "Yes") and benchmark.rejects == tuple(rejects)


def test_a_key_on_two_sides_is_refused(ask: Callable[..., BenchmarkRequest]) -> None:
    with pytest.raises(InputError, match="'toy': 1 key.*'a'"):
        assemble_benchmark(frame(key=["a", "b", "a"]), ("molecule",), SETTINGS, ask(), "sum", [])


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        (["validation", "validation", "test"], "no train rows .train 0, validation 2, test 1 rows under seed=0"),
        (["train", "validation", "train"], "no test rows .train 2, validation 1, test 0 rows"),
        (["validation"] * 3, "no train and no test rows .train 0, validation 3, test 0 rows"),
    ],
)
def test_an_empty_side_is_refused_with_what_was_asked(
    ask: Callable[..., BenchmarkRequest], sides: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=f"'toy' has {message}.*choose another split"):
        assemble_benchmark(frame(side=sides), ("molecule",), SETTINGS, ask(), "sum", [])


def cyp_of(write: Callable, ask: Callable[..., BenchmarkRequest], smiles: list[str], **settings: object) -> Benchmark:
    write("cyp.csv", "SMILES,label\n" + "".join(f"{molecule},{place % 2}\n" for place, molecule in enumerate(smiles)))
    labels = {"prompt": {"english": "{molecule} {protein}:"}, "labels": {"english": ["No", "Yes"]}}
    return cyp(CypSettings(table="cyp.csv", enzyme="CYP2D6", **labels, **settings), ask())


@pytest.mark.parametrize("split", CypSettings.SPLITS)
def test_every_kind_of_split_says_what_left_a_side_empty(
    split: str, write: Callable, ask: Callable[..., BenchmarkRequest]
) -> None:
    settings = rf"benchmark.split={split}, benchmark.validation_share=0.1, benchmark.test_share=0.001, seed=0"
    with pytest.raises(InputError, match=rf"no test rows \(train \d, validation \d, test 0 rows under {settings}"):
        cyp_of(write, ask, ["CO", "CCO", "CCCO"], split=split, test_share=0.001)


def test_what_decides_the_sides_is_said_by_the_settings() -> None:
    words = {"prompt": {"english": "{molecule}:"}, "labels": {"english": ["No", "Yes"]}}
    assert SETTINGS.split_kind() is None and SETTINGS.split_settings() == {}
    shares = {"validation_share": 0.1, "test_share": 0.2}
    scaffold = CypSettings(table="t", enzyme="CYP2D6", split="scaffold", **words)
    assert scaffold.split_kind() == "scaffold" and scaffold.split_settings() == {"split": "scaffold", **shares}
    published = InteractionSettings(table="t", split="published", **words)
    assert published.split_settings() == {"split": "published"}
    annotated = AnnotationSettings(modality="cell", table="t", entity="a", answer="b", above=1.0, **words)
    assert annotated.split_kind() is None and annotated.split_settings() == {**shares, "test_share": 0.1}


def test_a_small_side_is_named_with_its_count(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    with pytest.warns(UserWarning, match=f"'toy' has few validation rows .train .*fewer than {FEW}") as record:
        benchmark = cyp_of(write, ask, ["C" * n + "O" for n in range(1, 301)], validation_share=0.05, test_share=0.3)
    assert 0 < len(benchmark.validation) < FEW <= len(benchmark.test)
    assert f"validation {len(benchmark.validation)}, test {len(benchmark.test)} rows" in str(record[0].message)


@pytest.mark.filterwarnings("error")
def test_sides_that_are_large_enough_pass_in_silence(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    cyp_of(write, ask, ["C" * n + "O" for n in range(1, 301)], validation_share=0.3, test_share=0.3)


def test_several_entities_of_one_modality_have_numbered_columns(ask: Callable[..., BenchmarkRequest]) -> None:
    pairs = frame(molecule_1=["C", "CC", "CCC"], molecule_2=["O", "OO", "OOO"], cell=["A", "B", "D"])
    settings = TableSettings(prompt={"english": "{molecule_1}+{molecule_2} on {cell}:"}, labels={"english": ["N", "Y"]})
    benchmark = assemble_benchmark(pairs, ("molecule", "molecule", "cell"), settings, ask(), "sum", [])
    drugs = (Entity("molecule", "CCC"), "+", Entity("molecule", "OOO"))
    assert benchmark.test[0].prompt == (*drugs, " on ", Entity("cell", "D"), ":")


@pytest.mark.parametrize(
    ("modalities", "columns"),
    [
        (["molecule"], ["molecule"]),
        (["molecule", "protein"], ["molecule", "protein"]),
        (["molecule", "cell", "molecule", "molecule"], ["molecule_1", "cell", "molecule_2", "molecule_3"]),
    ],
)
def test_columns_are_numbered_only_where_a_modality_repeats(modalities: list[str], columns: list[str]) -> None:
    assert entity_column_names(modalities) == columns


@pytest.mark.parametrize(
    ("labels", "text"), [(["A"], '"A"'), (["A", "B"], '"A" or "B"'), (["A", "B", "C"], '"A", "B" or "C"')]
)
def test_a_listing_offers_every_answer(labels: list[str], text: str) -> None:
    assert quoted_list(labels) == text


def test_many_answers_are_listed_where_the_prompt_says_so(ask: Callable[..., BenchmarkRequest]) -> None:
    settings = TableSettings(prompt={"english": "{molecule}: {answers}."}, labels={})
    benchmark = assemble_benchmark(
        frame(answer=[0, 1, 2]), ("molecule",), settings, ask(), "sum", [], ["Low", "Mid", "High"]
    )
    assert benchmark.labels == ("Low", "Mid", "High")
    assert benchmark.test[0].prompt == (Entity("molecule", "CCC"), ': "Low", "Mid" or "High".')
    assert (benchmark.test[0].labels, benchmark.test[0].answer) == ((" Low", " Mid", " High"), 2)


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
    ask: Callable[..., BenchmarkRequest], labels: list[str], message: str
) -> None:
    settings = TableSettings(prompt={"english": "{molecule}:"}, labels={"english": labels})
    with pytest.raises(ConfigError, match=f"'toy': labels.english is {message}"):
        assemble_benchmark(frame(), ("molecule",), settings, ask(), "sum", [])
