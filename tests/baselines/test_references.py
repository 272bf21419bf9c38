"""What floors and references answer to the embedded benchmarks, and where they have no answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.baselines.toys import by_drug, predict
from tests.conftest import composed

from esmerge.adapters.dense import Update
from esmerge.adapters.lora import LoraState
from esmerge.baselines.api import FLOORS, REFERENCES, ReferenceModel
from esmerge.core.errors import ConfigError, NotApplicable
from esmerge.core.prompts import Benchmark
from esmerge.evaluation.metrics import metric_rows
from esmerge.experiment import context
from esmerge.experiment.config import choose_method, read_sweep
from esmerge.experiment.models import Models, load_models
from esmerge.experiment.pipeline import execute_all
from esmerge.experiment.plan import plan_runs
from esmerge.experiment.suite import load_suite
from esmerge.specialists.specialists import Specialists
from esmerge.tasks.load import load_benchmark
from esmerge.tracking.store import RunFolder

QUESTIONS = read_sweep(composed("specialists=textbook_tiny", "benchmark.limit=12")).suite_request()


@dataclass
class NamedModel:
    """Predicts with the name of the adapter that it was told to predict with."""

    adapters: Mapping[str, LoraState] = field(
        default_factory=lambda: {name: LoraState({}, notes={"name": name}) for name in ("one", "two")}
    )

    def predict(self, adapter: Update | None, benchmark: Benchmark) -> pd.DataFrame:
        return pd.DataFrame({"adapter": [None if adapter is None else adapter.notes["name"]] * len(benchmark.test)})

    def finetuned(self, benchmark: Benchmark) -> LoraState:
        return LoraState({}, notes={"name": f"finetuned on {benchmark.name}"})

    def average_finetuned(self, benchmark: Benchmark) -> LoraState:
        return LoraState({}, notes={"name": f"average finetuned on {benchmark.name}"})

    def multitask(self) -> LoraState:
        return LoraState({}, notes={"name": "finetuned on all"})


@pytest.fixture
def models(shared_cache: Path, tiny_specialists: Specialists) -> Models:
    overrides = ("specialists=textbook_tiny", "benchmark.limit=12", f"cache={shared_cache}")
    return load_models(read_sweep(composed(*overrides)), [benchmark("drug_protein")])


def benchmark(name: str) -> Benchmark:
    return load_benchmark(QUESTIONS, name)


def refer(model: ReferenceModel, questions: Benchmark, name: str, **settings: Any) -> pd.DataFrame:
    entry = REFERENCES.get(name)
    return entry.function(entry.settings(**settings), model, questions)


def check_answers(frame: pd.DataFrame, questions: Benchmark) -> None:
    """Every example has a label and a score."""
    assert frame["id"].tolist() == [example.id for example in questions.test]
    assert frame["label"].tolist() == [questions.labels[example.answer] for example in questions.test]
    assert set(frame["prediction"]) <= set(questions.labels) and frame["score"].between(0, 1).all()


@pytest.mark.parametrize("name", FLOORS.names())
def test_every_floor_answers_every_example(name: str) -> None:
    questions = benchmark("drug_protein")
    check_answers(predict(name, questions), questions)


@pytest.mark.parametrize("name", [name for name in REFERENCES.names() if name != "expert"])
def test_every_reference_answers_every_example(models: Models, name: str) -> None:
    questions = benchmark("drug_protein")
    check_answers(refer(models, questions, name), questions)


def test_floors_of_a_sweep_load_no_model(shared_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the specialists were loaded")

    monkeypatch.setattr(context, "load_specialists", refuse)
    names = ",".join(FLOORS.names())
    floors = (f"references=[{names}]", "method=random_forest", "method.trees=5", "method.min_leaf=3", "seed=3")
    small = ("specialists=textbook_tiny", "benchmark.limit=12", "suite.benchmarks=[drug_cell]", "compute.resamples=2")
    sweep = read_sweep(composed(*floors, *small, "tracking=disabled", f"cache={shared_cache}"))
    specs = plan_runs(sweep)
    assert execute_all(specs, tmp_path) == [] and len(specs) == len(FLOORS.names()) + 1
    predictions = RunFolder(tmp_path / specs[-1].name).read_predictions("drug_cell")
    (questions,) = load_suite(sweep)
    forest = predict("random_forest", questions, seed=3, trees=5, min_leaf=3)
    assert predictions is not None and predictions["prediction"].tolist() == forest["prediction"].tolist()
    assert np.allclose(predictions["score"], forest["score"]), "a run tells a floor its settings and the seed"


@pytest.mark.parametrize("name", ["majority", "group_mean", "logistic_regression", "random_forest", "neural_network"])
def test_floors_that_see_everything_answer_every_form_of_question(name: str) -> None:
    for questions in map(benchmark, QUESTIONS.names):
        frame = predict(name, questions)
        labels = [label.strip() for label in questions.labels]
        values = {row["metric"]: row["value"] for row in metric_rows(frame, labels, seed=0, resamples=2)}
        assert values["unparsable"] == 0 and 0 <= values["auroc"] <= 1, questions.name


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"name": "group_mean", "of": "drug"}, "method.of='drug': expected one of molecule, partner, both"),
        ({"name": "group_mean", "prior": -1}, "method.prior=-1.0: expected a number from 0"),
        ({"name": "logistic_regression", "c": 0}, "method.c=0.0: expected a number above 0"),
        ({"name": "random_forest", "trees": 0}, "method.trees=0: expected a number from 1"),
        ({"name": "random_forest", "min_leaf": 0}, "method.min_leaf=0: expected a number from 1"),
        ({"name": "neural_network", "width": 0}, "method.width=0: expected a number from 1"),
        ({"name": "neural_network", "learning_rate": 0}, "method.learning_rate=0.0: expected a number above 0"),
        ({"name": "random_forest", "depth": 3}, "method.depth is not a setting: expected one of trees, min_leaf"),
    ],
)
def test_bad_settings_of_floors_are_refused(node: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        choose_method(node)


@pytest.mark.parametrize(
    ("name", "questions"),
    [
        ("drug_only", "protein_family"),
        ("drug_only", "cell_lineage"),
        ("partner_only", "molecule_class"),
        ("partner_only", "drug_drug"),
    ],
)
def test_a_floor_without_its_modality_does_not_apply(name: str, questions: str) -> None:
    with pytest.raises(NotApplicable, match=questions):
        predict(name, benchmark(questions))


def test_without_a_training_split_there_is_nothing_to_learn_from() -> None:
    test_only = replace(by_drug(), train=())
    for name in FLOORS.names():
        with pytest.raises(NotApplicable, match="'toy' has no training examples"):
            predict(name, test_only)
    for name in ("finetuned", "average_finetuned"):
        with pytest.raises(NotApplicable, match="'toy' has no training split to fine-tune on"):
            refer(NamedModel(), test_only, name)


@pytest.mark.parametrize(
    ("name", "settings", "adapter"),
    [
        ("base", {}, None),
        ("expert", {"expert": "two"}, "two"),
        ("finetuned", {}, "finetuned on toy"),
        ("average_finetuned", {}, "average finetuned on toy"),
        ("multitask", {}, "finetuned on all"),
    ],
)
def test_a_reference_predicts_with_its_adapter(name: str, settings: dict[str, str], adapter: str | None) -> None:
    frame = refer(NamedModel(), by_drug(), name, **settings)
    assert frame["adapter"].tolist() == [adapter] * len(by_drug().test)


@pytest.mark.parametrize("name", ["nobody", None])
def test_an_unknown_specialist_is_refused(name: str | None) -> None:
    with pytest.raises(ConfigError, match=f"method.expert={name!r}: expected one of one, two"):
        refer(NamedModel(), by_drug(), "expert", expert=name)


def test_specialists_differ_from_the_backbone(models: Models, tiny_specialists: Specialists) -> None:
    questions = benchmark("drug_protein")
    frames = [refer(models, questions, "base")]
    frames += [refer(models, questions, "expert", expert=name) for name in tiny_specialists.adapters]
    assert len({tuple(frame["score"]) for frame in frames}) == len(frames)
