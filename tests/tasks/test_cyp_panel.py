from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.tasks.wording import LABELS, PROMPT

from esmerge.baselines.floors.drug_only import DrugOnlySettings, drug_only
from esmerge.core.errors import ConfigError, InputError
from esmerge.core.prompts import Benchmark, Entity, Example
from esmerge.data.enzymes import enzyme_sequence
from esmerge.data.identity import connectivity
from esmerge.data.molecules import scaffold
from esmerge.tasks.api import BenchmarkRequest
from esmerge.tasks.sources.cyp_panel import CypPanelSettings, cyp_panel

ENZYMES = ("CYP1A2", "CYP2C9", "CYP3A4")
CHAINS = ["C" * length + tail for length in range(1, 41) for tail in ("O", "N", "F", "Cl", "Br")]
SETTINGS = CypPanelSettings(
    prompt=PROMPT, labels=LABELS, tables={name: f"{name}.csv" for name in ENZYMES}, train_limit=None
)


@pytest.fixture
def answers(write: Callable) -> dict[tuple[str, str], int]:
    """(molecule, enzyme) -> answer, of three tables that hold most of the molecules each."""
    rng = np.random.default_rng(0)
    table = {(m, e): int(rng.random() < 0.3) for e in ENZYMES for m in CHAINS if rng.random() < 0.8}
    for enzyme in ENZYMES:
        rows = "".join(f"{molecule},{answer}\n" for (molecule, name), answer in table.items() if name == enzyme)
        write(f"{enzyme}.csv", "SMILES,label\n" + rows)
    return table


def pairs(examples: tuple[Example, ...]) -> pd.DataFrame:
    """A row per question that perceives both sides."""
    rows = [(*(entity.value for entity in example.entities()), example.group, example.answer) for example in examples]
    return pd.DataFrame(rows, columns=["molecule", "protein", "enzyme", "answer"])


def sides(benchmark: Benchmark) -> dict[str, tuple[Example, ...]]:
    return {"train": benchmark.train, "validation": benchmark.validation, "test": benchmark.test}


def test_tables_of_one_name_have_ids_of_their_own_and_one_table_twice_is_refused(
    answers: dict, write: Callable, ask: Callable[..., BenchmarkRequest], tmp_path: Path
) -> None:
    for enzyme in ENZYMES:
        write(f"{enzyme}/data.csv", (tmp_path / f"{enzyme}.csv").read_text())
    expected, benchmark = (
        cyp_panel(replace(SETTINGS, tables={name: file.format(name) for name in ENZYMES}), ask())
        for file in ("{}.csv", "{}/data.csv")
    )
    for side, examples in sides(benchmark).items():
        assert len({example.id for example in examples}) == len(examples)
        names = [example.id.replace("/data.csv", ".csv") for example in examples]
        assert names == [example.id for example in sides(expected)[side]]
    twice = {"CYP1A2": "CYP1A2.csv", "CYP2C9": "CYP1A2.csv", "CYP3A4": "CYP3A4.csv"}
    with pytest.raises(InputError, match=r"rows have the id of another, e\.g\. CYP1A2\.csv:\d+ is '.*' with .* and '"):
        cyp_panel(replace(SETTINGS, tables=twice, training="every"), ask())


def test_every_molecule_and_every_enzyme_has_as_many_yes_as_no(
    answers: dict, ask: Callable[..., BenchmarkRequest]
) -> None:
    benchmark = cyp_panel(SETTINGS, ask())
    for examples in sides(benchmark).values():
        rows = pairs(examples)
        assert (rows.groupby("molecule")["answer"].agg(["sum", "size"]) == [1, 2]).all(axis=None)
        assert (rows.groupby("enzyme")["answer"].mean() == 0.5).all()
    assert len(benchmark.test) > 20
    for row in pairs(benchmark.test).itertuples():
        assert row.protein == enzyme_sequence(row.enzyme) and answers[row.molecule, row.enzyme] == row.answer


def test_the_drug_alone_is_right_in_half_of_the_questions(answers: dict, ask: Callable[..., BenchmarkRequest]) -> None:
    for training in ("matched", "every"):
        table = drug_only(DrugOnlySettings(), cyp_panel(replace(SETTINGS, training=training), ask()), 0)
        assert (table["label"] == table["prediction"]).mean() == 0.5


@pytest.mark.parametrize("split", ["cold_drug", "scaffold"])
def test_no_form_of_a_test_molecule_is_in_training(
    split: str, write: Callable, ask: Callable[..., BenchmarkRequest]
) -> None:
    rings = [f"{tail}C1{'C' * size}C1" for size in range(1, 30) for tail in ("O", "N", "CC", "C[C@H](F)", "C[C@@H](F)")]
    forms = [*rings, *(f"{smiles}.Cl" for smiles in rings if smiles.startswith("N"))]
    for number, enzyme in enumerate(ENZYMES):
        rows = "".join(f"{smiles},{int((index + number) % 3 == 0)}\n" for index, smiles in enumerate(forms))
        write(f"{enzyme}.csv", "SMILES,label\n" + rows)
    benchmark = cyp_panel(replace(SETTINGS, split=split, training="every"), ask())
    key = connectivity if split == "cold_drug" else scaffold
    training_keys, test_keys = ({key(m) for m in pairs(side)["molecule"]} for side in (benchmark.train, benchmark.test))
    assert training_keys and test_keys and not training_keys & test_keys


def test_training_on_every_label_holds_all_of_the_training_molecules(
    answers: dict, ask: Callable[..., BenchmarkRequest]
) -> None:
    matched, every = (cyp_panel(replace(SETTINGS, training=training), ask()) for training in ("matched", "every"))
    assert (matched.test, matched.validation) == (every.test, every.validation)
    rows = pairs(every.train)
    assert set(pairs(matched.train)["molecule"]) < set(rows["molecule"])
    assert len(rows) == sum(molecule in set(rows["molecule"]) for molecule, _ in answers)


def test_a_limit_takes_whole_pairs(answers: dict, ask: Callable[..., BenchmarkRequest]) -> None:
    limited, full = (
        cyp_panel(replace(SETTINGS, train_limit=10, validation_limit=4), ask(limit=8)),
        cyp_panel(SETTINGS, ask()),
    )
    assert [len(side) for side in sides(limited).values()] == [10, 4, 8]
    assert (pairs(limited.test).groupby("molecule")["answer"].agg(["sum", "size"]) == [1, 2]).all(axis=None)
    assert {example.id for example in limited.test} < {example.id for example in full.test}


def test_words_take_the_position_of_what_is_not_perceived(answers: dict, ask: Callable[..., BenchmarkRequest]) -> None:
    both, molecule, partner, none = (
        cyp_panel(replace(SETTINGS, perceive=perceive), ask()).test
        for perceive in ("both", "molecule", "partner", "none")
    )
    for entities, named, described, text in zip(both, molecule, partner, none, strict=True):
        smiles, protein = entities.entities()
        assert named.prompt == ("Molecule ", smiles, f", protein {entities.group}. Final answer:")
        before, sequence, after = described.prompt
        assert (sequence, after) == (protein, ". Final answer:") and smiles.value not in str(before)
        assert text.prompt == (f"{before}{entities.group}. Final answer:",)
        assert {question.answer for question in (entities, named, described, text)} == {entities.answer}


def test_the_words_of_a_molecule_hold_both_answers_and_are_the_same_in_both_questions(
    answers: dict, ask: Callable[..., BenchmarkRequest]
) -> None:
    both, partner = (cyp_panel(replace(SETTINGS, perceive=name), ask()).test for name in ("both", "partner"))
    words: dict[str, set[str]] = {}
    for entities, described in zip(both, partner, strict=True):
        text = str(described.prompt[0]).removeprefix("Molecule ").removesuffix(", protein ")
        words.setdefault(entities.entities()[0].value, set()).add(text)
        positive, _, negative = text.removeprefix("inhibits ").partition(", but not ")
        assert entities.group in (positive if entities.answer else negative)
    assert all(len(texts) == 1 for texts in words.values())
    for molecule, (text,) in words.items():
        assert {name for name in ENZYMES if name in text} == {name for m, name in answers if m == molecule}


def test_without_a_perceived_side_there_is_no_entity(answers: dict, ask: Callable[..., BenchmarkRequest]) -> None:
    benchmark = cyp_panel(replace(SETTINGS, perceive="none"), ask())
    assert not any(isinstance(segment, Entity) for example in benchmark.test for segment in example.prompt)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"perceive": "drug"}, "perceive='drug' must be one of both, molecule, partner, none"),
        ({"training": "all"}, "training='all' must be one of matched, every"),
        ({"molecule_pairs": 0}, "molecule_pairs=0"),
        ({"split": "random"}, "split='random' must be one of cold_drug, scaffold"),
        ({"tables": {"CYP1A2": "CYP1A2.csv"}}, "tables names CYP1A2"),
        ({"tables": {"CYP1A2": "CYP1A2.csv", "CYP9Z9": "CYP2C9.csv"}}, "CYP9Z9.*CYP1A2, CYP2C9"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    changes: dict, message: str, answers: dict, ask: Callable[..., BenchmarkRequest]
) -> None:
    with pytest.raises(ConfigError, match=message):
        cyp_panel(replace(SETTINGS, **changes), ask())


def test_words_are_for_specialists_that_read_english(answers: dict, ask: Callable[..., BenchmarkRequest]) -> None:
    with pytest.raises(ConfigError, match="perceive=partner describes entities in english or brief"):
        cyp_panel(replace(SETTINGS, perceive="partner"), ask(language="textbook"))
    assert cyp_panel(SETTINGS, ask(language="textbook")).test[0].labels == ("no", "yes")


def test_tables_without_a_match_are_refused(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    for enzyme in ENZYMES:
        write(f"{enzyme}.csv", "SMILES,label\n" + "".join(f"{molecule},1\n" for molecule in CHAINS))
    with pytest.raises(InputError, match="no train and no test rows"):
        cyp_panel(SETTINGS, ask())
