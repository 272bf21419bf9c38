"""What the references answer, and where they have no answer."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from esmerge.experiment.session import Session
from tests.conftest import composed

from esmerge.baselines import floors
from esmerge.baselines.api import REFERENCES, NotApplicable
from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Benchmark
from esmerge.evaluation.metrics import metric_rows
from esmerge.experiment.config import choose_method, read_sweep
from esmerge.specialists.specialists import Specialists

FLOORS = [name for name in REFERENCES.names() if not REFERENCES.get(name).info.needs_model]


@pytest.fixture
def session(shared_cache: Path, tiny_specialists: Specialists) -> Session:
    overrides = ("specialists=textbook_tiny", "benchmark.limit=12", f"cache={shared_cache}")
    return Session(read_sweep(composed(*overrides)))


def benchmark(session: Session, name: str) -> Benchmark:
    return next(found for found in session.benchmarks() if found.name == name)


def ask(session: Session, asked: Benchmark, **node: Any) -> pd.DataFrame:
    method = choose_method(node)
    return method.entry.function(method.settings, session, asked)


@pytest.mark.parametrize("name", [name for name in REFERENCES.names() if name != "expert"])
def test_every_reference_answers_every_example_with_a_label_and_a_score(session: Session, name: str) -> None:
    asked = benchmark(session, "drug_protein")
    frame = ask(session, asked, name=name)
    assert frame["id"].tolist() == [example.id for example in asked.test]
    assert frame["label"].tolist() == [asked.labels[example.answer] for example in asked.test]
    assert set(frame["prediction"]) <= set(asked.labels) and frame["score"].between(0, 1).all()


@pytest.mark.parametrize("name", FLOORS)
def test_floors_load_no_model(session: Session, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the specialists were loaded")

    monkeypatch.setattr(Session, "specialists", property(refuse))
    assert len(ask(session, benchmark(session, "drug_cell"), name=name)) == 12


@pytest.mark.parametrize("name", ["majority", "group_mean", "logistic_regression", "random_forest"])
def test_floors_that_see_everything_answer_every_form_of_question(session: Session, name: str) -> None:
    for asked in session.benchmarks():
        frame = ask(session, asked, name=name)
        labels = [label.strip() for label in asked.labels]
        found = {row["metric"]: row["value"] for row in metric_rows(frame, labels, seed=0, resamples=2)}
        assert found["unparsable"] == 0 and 0 <= found["auroc"] <= 1, asked.name


def test_floors_are_told_their_settings_and_the_seed(session: Session) -> None:
    asked = benchmark(session, "drug_protein")
    forest = {"name": "random_forest", "trees": 5, "min_leaf": 3}
    assert ask(session, asked, **forest).equals(floors.random_forest(asked, session.sweep.seed, 5, 3))
    other = replace(session.sweep, seed=session.sweep.seed + 1)
    session.sweep = other
    assert ask(session, asked, **forest).equals(floors.random_forest(asked, other.seed, 5, 3))
    assert ask(session, asked, name="logistic_regression", c=9.0).equals(floors.logistic_regression(asked, 9.0))
    seen = replace(asked, test=asked.train)
    means = ask(session, seen, name="group_mean", of="molecule", prior=0.5)
    assert means.equals(floors.group_mean(seen, "molecule", 0.5))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"name": "group_mean", "of": "drug"}, "method.of='drug': expected one of molecule, partner, both"),
        ({"name": "group_mean", "prior": -1}, "method.prior=-1.0: expected a number from 0"),
        ({"name": "logistic_regression", "c": 0}, "method.c=0.0: expected a number above 0"),
        ({"name": "random_forest", "trees": 0}, "method.trees=0: expected a number from 1"),
        ({"name": "random_forest", "min_leaf": 0}, "method.min_leaf=0: expected a number from 1"),
        ({"name": "random_forest", "depth": 3}, "method.depth is not a setting: expected one of trees, min_leaf"),
    ],
)
def test_bad_settings_of_floors_are_refused(node: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        choose_method(node)


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("drug_only", "protein_family"),
        ("drug_only", "cell_lineage"),
        ("partner_only", "molecule_class"),
        ("partner_only", "drug_drug"),
    ],
)
def test_a_floor_without_its_modality_does_not_apply(session: Session, name: str, asked: str) -> None:
    with pytest.raises(NotApplicable, match=asked):
        ask(session, benchmark(session, asked), name=name)


@pytest.mark.parametrize("name", [*FLOORS, "finetuned"])
def test_without_a_training_split_there_is_nothing_to_learn_from(session: Session, name: str) -> None:
    with pytest.raises(NotApplicable, match="drug_protein"):
        ask(session, replace(benchmark(session, "drug_protein"), train=()), name=name)


def test_specialists_differ_from_the_backbone_and_an_unknown_one_is_refused(
    session: Session, tiny_specialists: Specialists
) -> None:
    asked = benchmark(session, "drug_protein")
    frames = [ask(session, asked, name="base")] + [
        ask(session, asked, name="expert", expert=name) for name in tiny_specialists.adapters
    ]
    scores = {tuple(frame["score"]) for frame in frames}
    assert len(scores) == len(frames)
    with pytest.raises(ConfigError, match="method.expert='nobody': expected one of molecule, protein, cell"):
        ask(session, asked, name="expert", expert="nobody")
