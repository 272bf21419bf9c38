from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import pandas as pd
import pytest

from esmerge.core.errors import ConfigError, InputError
from esmerge.core.prompts import Benchmark, Example
from esmerge.data.identity import parent
from esmerge.tasks.api import BenchmarkRequest
from esmerge.tasks.sources.drug_pairs import (
    TYPE_LABELS,
    DdiSettings,
    DdiTypeSettings,
    ddi,
    ddi_type,
    most_frequent,
    type_labels,
)
from esmerge.world.language import vocabulary

DRUGS = {f"DB{number:02}": "C" * number + "O" for number in range(1, 41)}
COMMON = {"pairs": "pairs.csv", "drugs": "drugs.csv", "train_limit": None, "validation_limit": None}
WHETHER = DdiSettings(
    prompt={"english": "{molecule_1} with {molecule_2}? Final answer:"}, labels={"english": ["No", "Yes"]}, **COMMON
)
HOW = DdiTypeSettings(
    prompt={
        "english": "{molecule_1} with {molecule_2}: {answers}? Final answer:",
        "textbook": "{molecule_1} {molecule_2} ? ",
    },
    types=2,
    **COMMON,
)
KINDS = ("49", "47", "73", "73", "47", "49", "49")  # how often: 49 three times, 47 and 73 twice in seven


def typed_pairs(drugs: list[str]) -> list[tuple[str, str, str]]:
    """A fifth of all pairs, in either order, with a type each."""
    pairs = [pair for place, pair in enumerate(combinations(drugs, 2)) if place % 5 == 0]
    turned = [pair if place % 2 else pair[::-1] for place, pair in enumerate(pairs)]
    return [(first, second, KINDS[place % len(KINDS)]) for place, (first, second) in enumerate(turned)]


def tables(write: Callable, extra: str = "") -> list[tuple[str, str, str]]:
    rows = typed_pairs(list(DRUGS))
    write("pairs.csv", "drug1_id,drug2_id,type\n" + "".join(",".join(row) + "\n" for row in rows) + extra)
    write("drugs.csv", "drug_id,SMILES\n" + "".join(f"{name},{smiles}\n" for name, smiles in DRUGS.items()))
    return rows


def examples(benchmark: Benchmark) -> list[Example]:
    return [*benchmark.train, *benchmark.validation, *benchmark.test]


def molecules(example: Example) -> tuple[str, ...]:
    return tuple(entity.value for entity in example.entities("molecule"))


def test_negatives_are_pairs_that_no_row_holds(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    rows = tables(write)
    questions = examples(ddi(WHETHER, ask()))
    positive = {molecules(e) for e in questions if e.answer == 1}
    negative = {molecules(e) for e in questions if e.answer == 0}
    assert positive == {tuple(sorted((DRUGS[first], DRUGS[second]))) for first, second, _ in rows}
    assert not positive & negative and all(first < second for first, second in positive | negative)
    assert len(negative) == pytest.approx(len(positive), rel=0.25)
    assert len({e.id for e in questions}) == len(questions) == len(positive) + len(negative)
    example = next(e for e in questions if e.answer == 0)
    label, *names = example.id.split(":")
    assert label == "unobserved" and tuple(DRUGS[name] for name in names) == molecules(example)


def test_negatives_follow_the_seed_and_the_positives_do_not(
    write: Callable, ask: Callable[..., BenchmarkRequest]
) -> None:
    tables(write)
    benchmarks = [ddi(WHETHER, ask(seed=seed)) for seed in (0, 0, 1)]
    sets = [{(molecules(e), e.answer) for e in examples(benchmark)} for benchmark in benchmarks]
    assert sets[0] == sets[1] != sets[2]
    assert {pair for pair, answer in sets[0] if answer} == {pair for pair, answer in sets[2] if answer}


def test_more_negatives_can_be_asked_for(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    tables(write)
    counts = Counter(e.answer for e in examples(ddi(replace(WHETHER, negatives=2.0), ask())))
    assert counts[0] == pytest.approx(2 * counts[1], rel=0.2)


def test_the_same_pair_twice_is_one_pair(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    first, second, kind = tables(write)[0]
    rows = tables(
        write, extra=f"{second},{first},{kind}\n{first},{second},60\n{first},{first},{kind}\nDBx,{first},{kind}\n"
    )
    benchmark = ddi(WHETHER, ask())
    assert Counter(e.answer for e in examples(benchmark))[1] == len(rows)
    last = len(rows) + 2
    reasons = {reject.row: reject.reason for reject in benchmark.rejects}
    assert reasons == {
        f"pairs.csv:{last}": "the same pair as in an earlier row",
        f"pairs.csv:{last + 1}": "the same pair as in an earlier row",
        f"pairs.csv:{last + 2}": "both drugs are one molecule",
        f"pairs.csv:{last + 3}": "drug1_id 'DBx' has no valid row in drugs.csv",
    }


def test_a_pair_of_two_types_has_no_answer(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    first, second, _ = tables(write)[0]
    tables(write, extra=f"{second},{first},60\n")
    reasons = {reject.row: reject.reason for reject in ddi_type(HOW, ask()).rejects}
    assert "has different types between pairs.csv:2 and" in reasons["pairs.csv:2"]


def test_only_the_most_frequent_types_are_asked_about(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    rows = tables(write)
    task = ddi_type(HOW, ask())
    counts = Counter(kind for *_, kind in rows)
    assert task.labels == ("More adverse effects", "Slower metabolism")  # 49, then 47: it ties with 73 and comes first
    assert counts["49"] > counts["47"] >= counts["73"]
    assert Counter(e.answer for e in examples(task)) == {0: counts["49"], 1: counts["47"]}
    assert len(task.rejects) == counts["73"]
    assert {reject.reason for reject in task.rejects} == {"its type is none of the 2 most frequent"}
    assert ': "More adverse effects" or "Slower metabolism"?' in "".join(map(str, task.test[0].prompt))


@pytest.mark.parametrize("source", [ddi, ddi_type])
def test_without_a_brief_wording_the_question_and_its_answers_are_english(
    source: Callable, write: Callable, ask: Callable[..., BenchmarkRequest]
) -> None:
    tables(write)
    settings = WHETHER if source is ddi else HOW
    assert source(settings, ask(language="brief")) == source(settings, ask())


@pytest.mark.parametrize("source", [ddi, ddi_type])
def test_pairs_may_hold_the_molecules_themselves(
    source: Callable, write: Callable, ask: Callable[..., BenchmarkRequest]
) -> None:
    rows = tables(write)
    lines = [f"{a}\t{b}\t{kind}\t#Drug1 and #Drug2\t{DRUGS[a]}\t{DRUGS[b]}\n" for a, b, kind in rows]
    write("drugbank.tab", "ID1\tID2\tY\tMap\tX1\tX2\n" + "".join(lines))  # as TDC writes it
    settings = WHETHER if source is ddi else HOW
    columns = {"drug_1": "ID1", "drug_2": "ID2", "type": "Y", "molecule_1": "X1", "molecule_2": "X2"}
    two_tables, one_table = (
        source(configuration, ask())
        for configuration in (settings, replace(settings, pairs="drugbank.tab", drugs=None, columns=columns))
    )
    assert [(molecules(e), e.answer) for e in examples(one_table)] == [
        (molecules(e), e.answer) for e in examples(two_tables)
    ]


def test_a_bad_molecule_beside_a_pair_is_refused_by_name(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    lines = [f"{a},{b},{DRUGS[a]},{DRUGS[b]}\n" for a, b, _ in typed_pairs(list(DRUGS))]
    write("pairs.csv", "drug1_id,drug2_id,SMILES_1,SMILES_2\n" + "".join(lines) + "DB01,DBxx,CO,C1CC\n")
    benchmark = ddi(replace(WHETHER, drugs=None, columns=WHETHER.columns), ask())
    reasons = [reject.reason for reject in benchmark.rejects]
    assert "C1CC" in reasons[0] and reasons[1] == "drug2_id 'DBxx' has no valid row in pairs.csv"
    with pytest.raises(ConfigError, match="no molecule_1, molecule_2, which benchmark.drugs=null needs"):
        replace(WHETHER, drugs=None, columns={"drug_1": "a", "drug_2": "b"})


def test_cold_drug_leaves_no_test_drug_in_training(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    tables(write)
    benchmark = ddi(replace(WHETHER, split="cold_drug", validation_share=0.2, test_share=0.3), ask())
    sides = [{m for e in side for m in molecules(e)} for side in (benchmark.train, benchmark.test)]
    assert all(sides) and not sides[0] & sides[1]
    assert all("cold_drug" in reject.reason for reject in benchmark.rejects) and benchmark.rejects


def test_frequency_ties_are_broken_by_name_and_too_many_types_are_refused() -> None:
    types = pd.Series(list("bbaacd"))
    assert most_frequent(types, 3) == ["a", "b", "c"]
    with pytest.raises(ConfigError, match="benchmark.types=5, but the table has 4"):
        most_frequent(types, 5)


def test_every_type_has_an_english_answer_that_no_other_holds() -> None:
    with TYPE_LABELS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    labels = [row["english"].lower() for row in rows]
    assert [row["type"] for row in rows] == [str(number) for number in range(1, 87)]
    assert not [(first, second) for first in labels for second in labels if first != second and first in second]
    assert len(set(labels)) == 86 and max(len(label.split()) for label in labels) <= 4
    words = [row["textbook"] for row in rows if row["textbook"]]
    assert len(set(words)) == len(words) and set(words) <= set(vocabulary())


def test_a_type_without_an_answer_is_named() -> None:
    assert type_labels(["49", "73"], "textbook") == ["clash", "high"]
    with pytest.raises(ConfigError, match="type 86 has no textbook answer in ddi_types.csv"):
        type_labels(["49", "86"], "textbook")
    with pytest.raises(ConfigError, match="type 87 has no english answer"):
        type_labels(["87"], "english")


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="benchmark.types=1"):
        replace(HOW, types=1)
    with pytest.raises(ConfigError, match="benchmark.negatives=0"):
        replace(WHETHER, negatives=0.0)
    with pytest.raises(ConfigError, match="benchmark.labels must be empty"):
        replace(HOW, labels={"english": ["a", "b"]})
    with pytest.raises(ConfigError, match="benchmark.split='cold_cell'"):
        replace(WHETHER, split="cold_cell")


def test_a_table_that_is_mostly_bad_is_refused(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    tables(write)
    write("drugs.csv", "drug_id,SMILES\nDB01,CO\nDB02,CCO\n")
    for source, settings in ((ddi, WHETHER), (ddi_type, HOW)):
        with pytest.raises(InputError, match="rows were refused"):
            source(settings, ask())


def test_a_drug_and_its_salt_are_one_drug_under_the_parent_rule(
    write: Callable, ask: Callable[..., BenchmarkRequest]
) -> None:
    rows = typed_pairs(list(DRUGS))
    salts = {f"{name}S": smiles.removesuffix("O") + "[O-].[Na+]" for name, smiles in DRUGS.items()}
    salt_rows = [(f"{partner}S", drug, kind) for drug, partner, kind in rows] + [("DB01", "DB01S", "49")]
    write("pairs.csv", "drug1_id,drug2_id,type\n" + "".join(",".join(row) + "\n" for row in [*rows, *salt_rows]))
    drugs = "".join(f"{name},{smiles}\n" for name, smiles in {**DRUGS, **salts}.items())
    write("drugs.csv", "drug_id,SMILES\n" + drugs)
    benchmark = ddi(replace(WHETHER, identity="parent"), ask())
    parents = [(e.answer, *sorted(map(parent, molecules(e)))) for e in examples(benchmark)]
    assert len(set(parents)) == len(parents)
    assert {pair[1:] for pair in parents if pair[0] == 1} == {
        tuple(sorted((DRUGS[drug], DRUGS[other]))) for drug, other, _ in rows
    }
    assert not {pair[1:] for pair in parents if pair[0] == 1} & {pair[1:] for pair in parents if pair[0] == 0}
    reasons = Counter(reject.reason for reject in benchmark.rejects)
    assert reasons == {"both drugs are one molecule": 1, "the same pair as in an earlier row": len(rows)}
