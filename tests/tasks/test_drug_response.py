from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest
from tests.tasks.wording import CELL_PROMPT, LABELS

from esmerge.core.errors import ConfigError, InputError
from esmerge.core.prompts import Benchmark, Example
from esmerge.data.molecules import scaffold
from esmerge.tasks.api import BenchmarkRequest
from esmerge.tasks.sources.drug_response import DrugResponseSettings, drug_response, sensitive

SETTINGS = DrugResponseSettings(
    prompt=CELL_PROMPT,
    labels=LABELS,
    pairs="pairs.csv",
    drugs="drugs.csv",
    cells="cells.csv",
    genes=2,
    train_limit=None,
    validation_limit=None,
)
DRUGS = {f"drug{number}": "C" * number + "O" for number in range(1, 25)}
LINES = [f"LINE{number}" for number in range(24)]


def tables(write: Callable, extra: str = "", drugs: str = "", cells: str = "") -> None:
    """Every drug on every line; the response rises with the line and with the drug."""
    rows = [f"{line},{drug},{a + 10 * b}\n" for b, drug in enumerate(DRUGS) for a, line in enumerate(LINES)]
    write("pairs.csv", "cell_line,drug,LN_IC50\n" + "".join(rows) + extra)
    write("drugs.csv", "drug,SMILES\n" + "".join(f"{name},{smiles}\n" for name, smiles in DRUGS.items()) + drugs)
    cell_rows = "".join(f"{line},TP53 EGFR GENE{number}\n" for number, line in enumerate(LINES))
    write("cells.csv", "cell_line,top200_by_expression\n" + cell_rows + cells)


def splits(benchmark: Benchmark) -> tuple[tuple[Example, ...], ...]:
    return benchmark.train, benchmark.validation, benchmark.test


def examples(benchmark: Benchmark) -> tuple[Example, ...]:
    return tuple(example for side in splits(benchmark) for example in side)


def test_the_default_label_is_relative_to_the_drug(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    tables(write)
    questions = examples(drug_response(SETTINGS, ask()))
    assert len(questions) == len(DRUGS) * len(LINES)
    assert all(example.answer == (int(example.group[4:]) < 12) for example in questions)
    assert {example.entities("cell")[0].value for example in questions} == {"TP53 EGFR"}


def test_a_global_threshold_is_the_drugs_potency() -> None:
    responses, drugs = pd.Series([0.0, 1.0, 10.0, 11.0]), pd.Series(["a", "a", "b", "b"])
    assert list(sensitive(responses, drugs, "drug_median")) == [1, 0, 1, 0]
    assert list(sensitive(responses, drugs, "global_median")) == [1, 1, 0, 0]
    assert list(sensitive(responses, drugs, "0.5")) == [1, 0, 0, 0]
    with pytest.raises(ConfigError, match="threshold='median'"):
        sensitive(responses, drugs, "median")


@pytest.mark.parametrize(("split", "modality"), [("cold_drug", "molecule"), ("cold_cell", None)])
def test_a_cold_split_holds_out_whole_drugs_or_lines(
    split: str, modality: str | None, write: Callable, ask: Callable[..., BenchmarkRequest]
) -> None:
    tables(write)
    benchmark = drug_response(replace(SETTINGS, split=split), ask())
    keys = [
        {example.entities(modality)[0].value if modality else example.group for example in side}
        for side in splits(benchmark)
    ]
    assert all(keys) and sum(map(len, keys)) == len(set.union(*keys)) == 24


def test_a_scaffold_split_holds_out_whole_scaffolds(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    rings = "".join(f"{line},ring{n},{place * n}\n" for place, line in enumerate(LINES) for n in range(1, 5))
    tables(write, extra=rings, drugs="".join(f"ring{n},{'C' * n}c1ccccc1\n" for n in range(1, 5)))
    benchmark = drug_response(replace(SETTINGS, split="scaffold"), ask())
    scaffolds = [{scaffold(e.entities("molecule")[0].value) for e in side} for side in splits(benchmark)]
    assert all(scaffolds) and sum(map(len, scaffolds)) == len(set.union(*scaffolds)) == len(DRUGS) + 1


def test_random_pairs_share_drugs_and_lines_but_no_pair(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    tables(write)
    benchmark = drug_response(SETTINGS, ask())
    assert {e.group for e in benchmark.train} & {e.group for e in benchmark.test}
    pairs = [(e.entities("molecule")[0].value, e.group) for e in examples(benchmark)]
    assert len(pairs) == len(set(pairs))


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"extra": "LINE1,unknown,1\n"}, "pairs.csv:578: drug 'unknown' has no valid row in drugs.csv"),
        ({"extra": "NOWHERE,drug1,1\n"}, "pairs.csv:578: cell_line 'NOWHERE' has no valid row in cells.csv"),
        ({"extra": "LINE1,drug1,\n"}, "pairs.csv:578: LN_IC50 is missing"),
        ({"extra": 'LINE1,drug1,"2,5"\n'}, "pairs.csv:578: LN_IC50 '2,5' is not a finite number: is its comma"),
        ({"extra": "LINE1,drug1,99\n"}, "different answers between pairs.csv:3 and pairs.csv:578"),
        ({"drugs": "bad,C1CC\n"}, "drugs.csv:26: SMILES 'C1CC'"),
        ({"cells": "EMPTY,\n"}, "cells.csv:26: top200_by_expression is missing"),
        ({"cells": "BAD,tp53\n"}, "cells.csv:26: gene list has 'tp53'"),
    ],
)
def test_a_bad_row_in_any_table_is_refused(
    extra: dict, reason: str, write: Callable, ask: Callable[..., BenchmarkRequest]
) -> None:
    tables(write, **extra)
    rejects = drug_response(SETTINGS, ask()).rejects
    assert any(reason in f"{reject.row}: {reject.reason}" for reject in rejects)


def test_pairs_of_a_bad_drug_are_refused_too(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    tables(write, extra="LINE1,bad,1\nLINE2,bad,1\n", drugs="bad,C1CC\n")
    assert [r.row for r in drug_response(SETTINGS, ask()).rejects] == ["drugs.csv:26", "pairs.csv:578", "pairs.csv:579"]


def test_replicates_are_averaged_where_that_is_asked_for(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    tables(write, extra="LINE1,drug1,99\n")  # with 1 in the table: mean 50, above the drug's median
    benchmark = drug_response(replace(SETTINGS, replicates="mean"), ask())
    assert {e.id: e.answer for e in examples(benchmark)}["pairs.csv:3"] == 0
    assert [(r.row, r.reason[:22]) for r in benchmark.rejects] == [("pairs.csv:578", "a replicate: the mean ")]
    with pytest.raises(ConfigError, match="benchmark.replicates='mode' must be mean, median or null"):
        replace(SETTINGS, replicates="mode")


def test_the_gdsc_projects_own_columns_are_read(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    tables(write)
    rows = [f"1,{line},{d},{drug},{n}\n" for d, drug in enumerate(DRUGS) for n, line in enumerate(LINES)]
    head = "COSMIC_ID,CELL_LINE_NAME,DRUG_ID,DRUG_NAME,LN_IC50\n"
    write("gdsc.csv", head + "".join(rows) + "1,LINE1,99,drug1,1.5\n")  # one drug under two numbers
    columns = {**SETTINGS.columns, "line": "CELL_LINE_NAME", "drug": "DRUG_NAME"}
    settings = replace(SETTINGS, pairs="gdsc.csv", columns=columns, replicates="mean")
    questions = examples(drug_response(settings, ask()))
    assert len(questions) == len(DRUGS) * len(LINES)
    assert all(example.answer == (int(example.group[4:]) < 12) for example in questions)


def test_too_many_bad_drugs_fail(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    tables(write, drugs="bad,C1CC\nworse,C1CC\n")
    with pytest.raises(InputError, match="2 of 26 rows"):
        drug_response(SETTINGS, ask())


@pytest.mark.parametrize(
    ("field", "value"), [("split", "warm"), ("split", "cold_target"), ("genes", 0), ("max_rejects", 1.0)]
)
def test_settings_that_do_not_fit_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"benchmark.{field}="):
        replace(SETTINGS, **{field: value})
