from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from esmerge.core.errors import ConfigError, InputError
from esmerge.core.prompts import Benchmark, Example
from esmerge.data.molecules import canonical_smiles
from esmerge.specialists.families.language_model.lessons import LessonSettings, read_lesson
from esmerge.tasks.api import BenchmarkRequest
from esmerge.tasks.sources.annotation import AnnotationSettings, annotation

SETTINGS = AnnotationSettings(
    prompt={"english": "{molecule}: {answers}? Final answer:"},
    labels={"english": ["No", "Yes"]},
    modality="molecule",
    table="t.csv",
    entity="SMILES",
    answer="logP",
    above=2.5,
    train_limit=None,
    validation_limit=None,
)
KINDS = replace(SETTINGS, above=None, classes={"a": 0, "b": 1, "c": 2, "x": None}, answer="kind")
THREE = {"english": ["Alpha", "Beta", "Gamma"]}


def table(write: Callable, extra: str = "") -> None:
    rows = [f"{'C' * n}O,{n % 7},{'abcx'[n % 4]},{'old' if n % 3 else 'new'}\n" for n in range(1, 121)]
    write("t.csv", "SMILES,logP,kind,age\n" + "".join(rows) + extra)


def examples(benchmark: Benchmark) -> list[Example]:
    return [*benchmark.train, *benchmark.validation, *benchmark.test]


def test_a_number_makes_a_yes_or_no_question(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    table(write)
    benchmark = annotation(SETTINGS, ask(family="retention"))
    assert len(examples(benchmark)) == 120 and benchmark.family == "retention" and not benchmark.rejects
    for example in examples(benchmark):
        carbons = example.entities("molecule")[0].value.count("C")
        assert example.answer == (carbons % 7 > 2.5) and example.id == f"t.csv:{carbons + 1}"
    assert benchmark.test[0].prompt[1:] == (': "No" or "Yes"? Final answer:',)


def test_classes_make_several_answers_and_null_is_left_out(
    write: Callable, ask: Callable[..., BenchmarkRequest]
) -> None:
    table(write)
    benchmark = annotation(replace(KINDS, labels=THREE), ask())
    assert (
        len(examples(benchmark)) == 90 and len(benchmark.rejects) == 30 and benchmark.labels == tuple(THREE["english"])
    )
    assert {reject.reason for reject in benchmark.rejects} == {"its kind stands for none of the answers"}
    assert benchmark.test[0].labels == (" Alpha", " Beta", " Gamma")


def test_rows_of_another_kind_are_left_out(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    table(write)
    benchmark = annotation(replace(SETTINGS, rows={"age": "new"}), ask())
    assert len(examples(benchmark)) == 40 and len(benchmark.rejects) == 80
    assert {reject.reason for reject in benchmark.rejects} == {"its age is not new"}


def test_a_selection_that_no_row_meets_names_the_values_there_are(
    write: Callable, ask: Callable[..., BenchmarkRequest]
) -> None:
    rows = "".join(f"{'C' * n}O,{n % 7},{1.0 if n % 3 else 0.0},{n}\n" for n in range(1, 31))
    write("t.csv", "SMILES,logP,binds,number\n" + rows)
    message = r"benchmark\.rows\.binds='1' selects none of 30 rows: binds holds '1\.0' \(20\), '0\.0' \(10\); write the"
    with pytest.raises(InputError, match=message):
        annotation(replace(SETTINGS, rows={"binds": "1"}), ask())
    with pytest.raises(InputError, match=r"rows\.number='x' selects none of 20 rows: .* and others; write the value"):
        annotation(replace(SETTINGS, rows={"binds": "1.0", "number": "x"}), ask())


def test_rows_that_are_all_left_out_are_not_called_refused(
    write: Callable, ask: Callable[..., BenchmarkRequest]
) -> None:
    write("t.csv", "SMILES,kind\nCCO,x\nCCC,x\n")
    with pytest.raises(InputError, match="none of the 2 rows is of the kind that this benchmark asks about"):
        annotation(replace(KINDS, labels=THREE), ask())


def test_bad_rows_are_named(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    table(write, extra="C1CC,1,a,old\nOCC,0,a,old\nOC,9,a,old\nCCF,much,a,old\n,1,a,old\n")
    reasons = {reject.row: reject.reason for reject in annotation(replace(SETTINGS, max_rejects=0.1), ask()).rejects}
    assert "not a valid molecule" in reasons["t.csv:122"]
    assert "has different logPs between t.csv:3 and t.csv:123" not in reasons.values()
    assert reasons["t.csv:123"] == "the same SMILES and logP as in t.csv:3"  # both are below
    assert "different logPs between t.csv:2 and t.csv:124" in reasons["t.csv:124"] == reasons["t.csv:2"]
    assert reasons["t.csv:125"] == "logP 'much' is not a number"
    assert "SMILES is missing" in reasons["t.csv:126"]


def test_a_cell_is_its_first_genes_and_a_protein_its_letters(
    write: Callable, ask: Callable[..., BenchmarkRequest]
) -> None:
    rows = "".join(f"GENE{n} TP53 EGFR,M{'K' * n}A,{n % 2}\n" for n in range(60))
    write("t.csv", "genes,sequence,label\n" + rows + "tp53,M1,0\n")
    shared = {"answer": "label", "above": None, "classes": {"0": 0, "1": 1}}
    prompt = {"english": "{cell} ? Final answer:"}
    cell = annotation(replace(SETTINGS, modality="cell", entity="genes", words=2, prompt=prompt, **shared), ask())
    assert {len(e.entities("cell")[0].value.split()) for e in examples(cell)} == {2}
    assert [reject.row for reject in cell.rejects] == ["t.csv:62"]
    prompt = {"english": "{protein} ? Final answer:"}
    protein = annotation(replace(SETTINGS, modality="protein", entity="sequence", prompt=prompt, **shared), ask())
    assert "'1' at position 2" in protein.rejects[0].reason


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_nothing_that_a_lesson_teaches_is_tested(
    write: Callable, ask: Callable[..., BenchmarkRequest], tmp_path: Path, seed: int
) -> None:
    table(write)
    settings = LessonSettings("chemist", "molecule", "t.csv", "SMILES", "logP", "{molecule}?", ["No", "Yes"], above=2.5)
    lesson = read_lesson("toy", settings, tmp_path, canonical_smiles, 0.2, seed)
    benchmark = annotation(SETTINGS, ask(seed=seed))
    lessons = {value for column in lesson.train for value in column}
    sides = [{e.entities()[0].value for e in side} for side in (benchmark.train, benchmark.validation, benchmark.test)]
    assert sides[0] == lessons and sides[2] and not lessons & (sides[1] | sides[2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"above": None}, "sets none of above, contains, classes, mentions"),
        ({"contains": "x"}, "sets above, contains of"),
        ({"modality": "virus"}, "benchmark.modality='virus' must be one of molecule, protein, cell"),
        ({"answer": "SMILES"}, "are one column, SMILES"),
        ({"words": 0}, "benchmark.words=0"),
        ({"above": None, "classes": {"a": -1, "b": 0}}, "maps 'a' to -1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(SETTINGS, **changes)


def test_labels_that_are_not_the_answers_are_refused(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    table(write)
    with pytest.raises(ConfigError, match="labels.english is No, Yes: expected 3"):
        annotation(KINDS, ask())
    with pytest.raises(ConfigError, match="expected 2"):
        annotation(replace(SETTINGS, labels=THREE), ask())
    with pytest.raises(InputError, match="rows were refused"):
        annotation(replace(SETTINGS, answer="kind"), ask())
