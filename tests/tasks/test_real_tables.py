"""The real tables, where they are: counts against pandas, and splits that do not overlap."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import OmegaConf
from tests.baselines.toys import predict

from esmerge.cli.tasks.options import DEFAULTS, load_from_tables
from esmerge.core.compose import compose_choice
from esmerge.core.prompts import Benchmark, Example

DATA = Path(__file__).parents[3] / "shared" / "data"
CYPS = ["1a2", "2c9", "2c19", "2d6", "3a4"]
NAMES = [*(f"cyp{enzyme}_inhibition" for enzyme in CYPS), "human", "gdsc2"]
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real tables (../shared/data) are not here")


@cache
def benchmark(name: str) -> Benchmark:
    """All rows of a benchmark."""
    options = OmegaConf.merge(DEFAULTS, {"root": str(DATA)})
    return load_from_tables(compose_choice("benchmark", name), options)


def everything(name: str) -> tuple[Example, ...]:
    dataset = benchmark(name)
    return (*dataset.train, *dataset.validation, *dataset.test)


def held_in(examples: tuple[Example, ...], modality: str) -> set[str]:
    return {example.entities(modality)[0].value for example in examples}


@pytest.mark.parametrize("name", NAMES)
def test_every_row_is_used_or_refused(name: str) -> None:
    dataset = benchmark(name)
    assert min(len(dataset.train), len(dataset.validation), len(dataset.test)) > 0
    tables = {"human": "dti_human/human_random.csv", "gdsc2": "gdsc/gdsc2_pairs.csv"}
    table = tables.get(name, f"cyp/{name.split('_')[0]}_inhibitor.csv")
    assert len(everything(name)) + len(dataset.rejects) == len(pd.read_csv(DATA / table))


@pytest.mark.parametrize("name", NAMES)
def test_no_pair_stands_in_two_splits(name: str) -> None:
    dataset = benchmark(name)
    sides = [{(*e.entities(), e.group) for e in side} for side in (dataset.train, dataset.validation, dataset.test)]
    assert len(set.union(*sides)) == sum(map(len, sides)) == len(everything(name))


@pytest.mark.parametrize("enzyme", CYPS)
def test_cyp_labels_are_the_tables(enzyme: str) -> None:
    table = pd.read_csv(DATA / "cyp" / f"cyp{enzyme}_inhibitor.csv")
    assert sum(example.answer for example in everything(f"cyp{enzyme}_inhibition")) == table["label"].sum()


def test_a_molecule_is_never_trained_on_for_one_enzyme_and_tested_for_another() -> None:
    datasets = [benchmark(f"cyp{enzyme}_inhibition") for enzyme in CYPS]
    training_molecules = set().union(*(held_in(dataset.train, "molecule") for dataset in datasets))
    test_molecules = set().union(*(held_in(dataset.test, "molecule") for dataset in datasets))
    assert training_molecules and test_molecules and not training_molecules & test_molecules
    assert len(set.intersection(*(held_in(everything(dataset.name), "molecule") for dataset in datasets))) == 5006


def test_human_has_its_published_split() -> None:
    dataset = benchmark("human")
    sizes = [len(side) for side in (dataset.train, dataset.validation, dataset.test)]
    assert sizes == [4197, 600, 1200]
    table = pd.read_csv(DATA / "dti_human" / "human_random.csv").query("split == 'test'")
    assert sum(example.answer for example in dataset.test) == table["label"].sum() == 536
    assert held_in(dataset.test, "protein") == set(table["sequence"])


def test_gdsc2_pairs_are_labelled_within_their_drug() -> None:
    pairs = pd.read_csv(DATA / "gdsc" / "gdsc2_pairs.csv").set_index("drug", append=True)["LN_IC50"]
    medians = pairs.groupby("drug").median()
    expected = (pairs < medians.reindex(pairs.index.get_level_values("drug")).to_numpy()).to_numpy()
    for example in everything("gdsc2")[::97]:
        assert example.answer == expected[int(example.id.split(":")[1]) - 2]
    examples = everything("gdsc2")
    assert len({example.group for example in examples}) == 919 and len(held_in(examples, "molecule")) == 228
    assert {len(cell.split()) for cell in held_in(examples, "cell")} == {50}


@pytest.mark.parametrize("name", ["human", "cyp1a2_inhibition"])
def test_the_drug_alone_beats_the_majority(name: str) -> None:
    dataset = benchmark(name)
    small = Benchmark(**{**vars(dataset), "train": dataset.train[:600], "test": dataset.test[:300]})
    frames = [predict(floor, small) for floor in ("majority", "drug_only")]
    scores = [float((frame["label"] == frame["prediction"]).mean()) for frame in frames]
    assert scores[1] > scores[0] + 0.05
