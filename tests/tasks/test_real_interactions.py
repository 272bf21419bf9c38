"""Drug pairs, synergy and retention on the real tables: counts against pandas, and what must not leak."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from tests.conftest import composed
from tests.tasks.golden import DATA

from esmerge.cli.tasks.options import DEFAULTS, load_from_tables
from esmerge.core.compose import compose_choice
from esmerge.core.prompts import Benchmark, Example
from esmerge.core.schema import choose, plain
from esmerge.data.molecules import canonical_smiles
from esmerge.specialists.api import SPECIALISTS
from esmerge.specialists.families.language_model.family import read_lessons

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real tables (../shared/data) are not here")
TABLES = {
    **{f"cyp{enzyme}_substrate": f"cyp/cyp{enzyme}_substrate.csv" for enzyme in ("1a2", "2c9", "2c19", "2d6", "3a4")},
    "bindingdb": "dti_bindingdb/bindingdb_subset.csv",
    "biosnap": "dti_biosnap/biosnap_partial.csv",
    "drugcomb": "synergy_oneil/pairs.csv",
    "ddi_type": "ddi_drugbank/pairs.csv",
    "molecule_logp": "molecule/drugbank_approved_properties.csv",
    "molecule_donors": "molecule/drugbank_approved_properties.csv",
    "molecule_kind": "molecule/chebi20_captions_val_test.csv",
    "protein_fold": "protein/scop_class.csv",
    "protein_signal": "protein/signalp_binary.csv",
    "cell_type": "cell/pbmc68k_reduced_ranked.csv",
}
RETENTION = compose_choice("suite", "retention")["benchmarks"]


@cache
def benchmark(name: str) -> Benchmark:
    """All rows of a benchmark."""
    options = OmegaConf.merge(DEFAULTS, {"root": str(DATA)})
    return load_from_tables(compose_choice("benchmark", name), options)


def everything(name: str) -> list[Example]:
    dataset = benchmark(name)
    return [*dataset.train, *dataset.validation, *dataset.test]


def raw(name: str, example: Example) -> pd.Series:
    """The table's line that an example comes from."""
    return table(TABLES[name]).iloc[int(example.id.split(":")[1]) - 2]


@cache
def table(path: str) -> pd.DataFrame:
    return pd.read_csv(DATA / path)


def values(examples: tuple[Example, ...] | list[Example], modality: str | None = None) -> set[str]:
    return {entity.value for example in examples for entity in example.entities(modality)}


@pytest.mark.parametrize("name", TABLES)
def test_every_row_is_used_or_listed(name: str) -> None:
    dataset = benchmark(name)
    assert min(len(dataset.train), len(dataset.validation), len(dataset.test)) > 0
    assert len(everything(name)) + len(dataset.rejects) == len(table(TABLES[name]))
    assert len({example.id for example in everything(name)}) == len(everything(name))


@pytest.mark.parametrize("name", [*TABLES, "ddi"])
def test_no_question_stands_in_two_splits(name: str) -> None:
    dataset = benchmark(name)
    sides = [
        {tuple(sorted((x.modality, x.value) for x in e.entities())) for e in s} for s in (dataset.train, dataset.test)
    ]
    assert all(sides) and not sides[0] & sides[1]


def test_synergy_labels_are_the_tables() -> None:
    for example in everything("drugcomb")[::53]:
        row = raw("drugcomb", example)
        assert abs(row["loewe"]) > 10 and example.answer == (row["loewe"] > 0) and example.group == row["cell_line"]
    drugs = table("synergy_oneil/drugs.csv").set_index("pubchemid")["SMILES"]
    example = benchmark("drugcomb").test[0]
    row = raw("drugcomb", example)
    assert values([example], "molecule") == {canonical_smiles(drugs[row[name]]) for name in ("cid_a", "cid_b")}
    assert (table(TABLES["drugcomb"])["loewe"].abs() <= 10).sum() == len(benchmark("drugcomb").rejects)


def test_interactions_are_drugbanks_and_negatives_are_not() -> None:
    smiles = table("ddi_drugbank/drugs.csv").set_index("drug_id")["SMILES"].map(canonical_smiles)
    pairs = table(TABLES["ddi_type"])
    interactions = {
        frozenset(pair) for pair in zip(pairs["drug1_id"].map(smiles), pairs["drug2_id"].map(smiles), strict=True)
    }
    pairs_by_answer: dict[int, list[frozenset[str]]] = {0: [], 1: []}
    for example in everything("ddi"):
        pairs_by_answer[example.answer].append(frozenset(values([example])))
    assert set(pairs_by_answer[1]) == interactions and len(pairs_by_answer[1]) == len(interactions) == 191_464
    assert not interactions & set(pairs_by_answer[0]) and len(pairs_by_answer[0]) == pytest.approx(
        len(interactions), rel=0.02
    )
    counts = [Counter(drug for pair in pairs_by_answer[answer] for drug in pair) for answer in (0, 1)]
    frequencies = np.array([[count[drug] for count in counts] for drug in counts[1]])
    assert np.corrcoef(frequencies.T)[0, 1] > 0.99


def test_interaction_types_are_the_tables() -> None:
    kinds = ["49", "47", "73", "75", "60", "70", "20", "16"]
    for example in everything("ddi_type")[::997]:
        assert str(raw("ddi_type", example)["type"]) == kinds[example.answer]
    assert benchmark("ddi_type").labels[:2] == ("More adverse effects", "Slower metabolism")


def test_retention_answers_are_the_tables() -> None:
    for example in everything("molecule_logp")[::29]:
        assert example.answer == (raw("molecule_logp", example)["logP"] > 2.5)
    for example in everything("molecule_donors")[::29]:
        assert example.answer == (raw("molecule_donors", example)["hydrogen_bond_donors"] > 2)
    for example in everything("protein_fold")[::97]:
        assert raw("protein_fold", example)["label"] in ("a", "b", "cd")[example.answer]
    for example in everything("protein_signal")[::97]:
        assert raw("protein_signal", example)["label"] == example.answer
    for example in everything("molecule_kind")[::17]:
        word = ("steroid", "peptide", "saccharide", "terpenoid", "fatty acid", "flavon")[example.answer]
        assert word in raw("molecule_kind", example)["description"].split(". ")[0].lower()


@pytest.mark.parametrize("seed", [0, 3])
def test_nothing_that_the_specialists_are_taught_is_tested(seed: int) -> None:
    config = plain(composed("specialists=smollm2_aligned", f"specialists.root={DATA}").specialists)
    settings = choose(SPECIALISTS, config, "specialists").settings
    lessons = read_lessons(settings, seed)
    assert {lesson.modality for lesson in lessons} == {"molecule", "protein", "cell"}
    options = OmegaConf.merge(DEFAULTS, {"root": str(DATA), "seed": seed})
    for name in RETENTION:
        dataset = load_from_tables(compose_choice("benchmark", name), options)
        modality = dataset.test[0].entities()[0].modality
        lesson_values = {
            value for entry in lessons if entry.modality == modality for column in entry.train for value in column
        }
        assert lesson_values and not lesson_values & values([*dataset.validation, *dataset.test])
        if name != "molecule_kind":  # no lesson asks it
            assert lesson_values & values(dataset.train)
