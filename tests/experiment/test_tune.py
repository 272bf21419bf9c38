"""Tuning: the validation split decides, the published settings are tried first, every method has the same trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests.conftest import composed

from esmerge.core.errors import ConfigError, NumberError
from esmerge.core.prompts import Benchmark, Example
from esmerge.experiment.config import read_sweep
from esmerge.experiment.pipeline import execute_all
from esmerge.experiment.plan import RunSpec, plan_runs
from esmerge.experiment.search import SearchRange, Tuning, values_of, with_values
from esmerge.experiment.suite import load_suite, on_validation
from esmerge.experiment.tune import objective, optimise, tune, tuning_benchmarks
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.run import merge
from esmerge.specialists.specialists import Specialists
from esmerge.tracking.store import RunFolder

COMMON = ("specialists=textbook_tiny", "benchmark.limit=12", "probe.samples=3", "granularity.projections=8",
          "suite.benchmarks=[drug_cell,molecule_class]", "references=[base]", "tracking=disabled",
          "compute.resamples=10")  # fmt: skip
TUNED = ("tuning=validation", "tuning.trials=4", "tuning.limit=6")


def prepare(cache: Path, *overrides: str) -> RunSpec:
    return plan_runs(read_sweep(composed(*COMMON, f"cache={cache}", *overrides)))[-1]


def test_the_search_finds_a_known_optimum_and_starts_from_the_published_values() -> None:
    trials: list[dict[str, float]] = []

    def score(values: dict[str, float]) -> float:
        trials.append(dict(values))
        return -((values["scale"] - 2) ** 2)

    ranges = {"scale": SearchRange(0.1, 4.0, log=True)}
    best = optimise(ranges, {"scale": 1.0}, 30, 0, score)
    assert trials[0] == {"scale": 1.0} and len(trials) == 30
    assert best["scale"] == pytest.approx(2, abs=0.2)
    assert all(0.1 <= values["scale"] <= 4 for values in trials)
    assert optimise(ranges, {"scale": 1.0}, 30, 0, score) == best, "the same seed proposes the same settings"


@pytest.mark.parametrize("no_score", [None, float("nan"), float("inf"), float("-inf")])
def test_values_without_a_score_never_win_and_the_others_go_on(no_score: float | None) -> None:
    trials: list[float] = []

    def score(values: dict[str, float]) -> float | None:
        trials.append(values["scale"])
        return no_score if values["scale"] < 2 else -values["scale"]

    best = optimise({"scale": SearchRange(0.1, 4.0)}, {"scale": 1.0}, 12, 0, score)
    assert len(trials) == 12 and best == {"scale": min(value for value in trials if value >= 2)}
    assert optimise({"scale": SearchRange(0.1, 2.0)}, {"scale": 1.0}, 3, 0, score) is None


def test_published_values_outside_the_range_are_tried_too() -> None:
    assert optimise({"x": SearchRange(0, 1)}, {"x": 5.0}, 3, 0, lambda values: values["x"]) == {"x": 5.0}


def test_a_rule_in_place_of_a_number_is_tried_as_it_is() -> None:
    trials: list[object] = []

    def score(values: dict) -> float:
        trials.append(values["keep"])
        return 1.0 if values["keep"] is None else 0.5

    assert optimise({"keep": SearchRange(0.1, 1)}, {"keep": None}, 3, 0, score) == {"keep": None}
    assert trials[0] is None and all(0.1 <= value <= 1 for value in trials[1:])


def test_a_method_is_tuned_in_what_it_has() -> None:
    plan_ = read_sweep(composed("tuning=validation")).tuning
    granularity = read_sweep(composed("granularity=joint")).granularity
    es, ties = MERGES.get("es").settings(), MERGES.get("ties").settings()
    assert set(plan_.ranges(es, granularity)) == {"scale", "temperature", "tau"}
    layer = read_sweep(composed("granularity=layer")).granularity
    assert set(plan_.ranges(es, layer)) == {"scale", "temperature"}
    ranges = plan_.ranges(ties, None)
    assert set(ranges) == {"scale", "keep"} and values_of(ranges, ties, None) == {"scale": 1.0, "keep": 0.2}
    new_settings, new_granularity = with_values({"scale": 2.0, "tau": 0.5}, es, granularity)
    assert (
        new_settings.scale == 2
        and new_granularity is not None
        and new_granularity.tau == 0.5
        and new_granularity.temperature == 0.5
    )


@pytest.mark.parametrize("name", [name for name in MERGES.names()])
def test_every_merge_has_something_to_tune(name: str) -> None:
    plan_ = read_sweep(composed("tuning=validation")).tuning
    assert "scale" in plan_.ranges(MERGES.get(name).settings(), None)


def test_every_range_is_of_some_setting() -> None:
    plan_ = read_sweep(composed("tuning=validation")).tuning
    granularity = read_sweep(composed("granularity=joint")).granularity
    names = {name for merge in MERGES.names() for name in plan_.ranges(MERGES.get(merge).settings(), granularity)}
    assert names == set(plan_.search)


@pytest.mark.parametrize("method", ["es", "ties"])
def test_a_tuned_run_asks_no_test_question_before_it_has_chosen(
    method: str, shared_cache: Path, tiny_specialists: Specialists, tmp_path: Path
) -> None:
    spec = prepare(shared_cache, f"method={method}", *TUNED)
    assert spec.tuned and "tuned" in spec.name
    test_ids = {example.id for benchmark in load_suite(spec.sweep) for example in benchmark.test}
    asked_ids: list[str] = []

    def ask(settings, granularity, benchmarks) -> list[pd.DataFrame]:
        asked_ids.extend(example.id for benchmark in benchmarks for example in benchmark.test)
        right = str(int(abs(settings.scale - 2) < 1))
        return [pd.DataFrame({"prediction": [right], "label": ["1"]}) for _ in benchmarks]

    run = RunFolder(tmp_path / "run")
    settings, granularity = tune(spec, load_suite(spec.sweep), run, ask)
    assert asked_ids and not test_ids & set(asked_ids)
    trials = run.read_tuning()
    assert len(trials) == 4 and trials["scale"].iloc[0] == spec.method.settings.scale
    best = trials.loc[trials["accuracy"].idxmax()]
    assert settings.scale == best["scale"]
    assert (granularity is not None) == (method == "es") and (method == "ties" or granularity.tau == best["tau"])


def test_a_trial_that_is_refused_is_recorded_and_the_others_go_on(
    shared_cache: Path, tiny_specialists: Specialists, tmp_path: Path
) -> None:
    spec = prepare(shared_cache, "method=average", *TUNED)

    def predict_all(settings: Any, granularity: Any, benchmarks: Any) -> list[pd.DataFrame]:
        if settings.scale < limit:
            raise NumberError(f"scale {settings.scale} overflows in float16")
        return [pd.DataFrame({"prediction": ["1"], "label": ["1"]}) for _ in benchmarks]

    limit, run = 1.1, RunFolder(tmp_path / "run")
    settings, _ = tune(spec, load_suite(spec.sweep), run, predict_all)
    trials = run.read_tuning()
    assert settings.scale >= limit and len(trials) == 4
    failures = trials[trials["accuracy"].isna()]
    assert (failures["scale"] < limit).all() and 1.0 in set(failures["scale"])
    assert failures["failure"].str.startswith("NumberError: scale").all()
    limit = 99.0
    with pytest.raises(ConfigError, match=r"method=average: every trial failed, .* NumberError: scale 1\.0 overflows"):
        tune(spec, load_suite(spec.sweep), run, predict_all)


def test_a_tuned_run_end_to_end(shared_cache: Path, tiny_specialists: Specialists, tmp_path: Path) -> None:
    spec = prepare(shared_cache, "method=average", *TUNED)
    assert execute_all([spec], tmp_path) == []
    run = RunFolder(tmp_path / spec.name)
    trials = run.read_tuning()
    assert len(trials) == 4 and trials["scale"].iloc[0] == 1.0
    assert set(run.read_metrics()["benchmark"]) == {"drug_cell", "molecule_class"}
    costs = run.read_costs()
    assert costs["merging"]["seconds"] > 0 and costs["measuring"]["seconds"] == 0
    card = (run.path / "adapter" / "README.md").read_text()
    best = trials.loc[trials["accuracy"].idxmax(), "scale"]
    assert f'"scale": {best}' in card and "tuned on the validation split" in card
    published = prepare(shared_cache, "method=average")
    assert not published.tuned and published.name != spec.name


def test_what_decides_must_be_there(shared_cache: Path, tiny_specialists: Specialists) -> None:
    suite = load_suite(prepare(shared_cache).sweep)
    names = [benchmark.name for benchmark in tuning_benchmarks(suite, Tuning(objective="cross_modal"))]
    assert names == ["drug_cell"]
    assert len(tuning_benchmarks(suite, Tuning())) == 2
    with pytest.raises(
        ConfigError, match="tuning.objective='drug_drug': expected all or one of cross_modal, retention"
    ):
        tuning_benchmarks(suite, Tuning(objective="drug_drug"))


def test_a_sample_of_validation_questions_has_the_answers_of_the_whole() -> None:
    """Tables come sorted: their first rows may all have one answer."""
    answers = [0] * 60 + [1] * 40
    questions = tuple(Example(str(n), ("?",), ("No", "Yes"), answer) for n, answer in enumerate(answers))
    benchmark = Benchmark("sorted", "Sorted", "cross_modal", ("No", "Yes"), questions, questions, questions, "")
    samples = [on_validation(benchmark, 20, seed).test for seed in (0, 1)]
    assert [sum(example.answer for example in examples) for examples in samples] == [8, 8] and samples[0] != samples[1]
    assert on_validation(benchmark).test == questions == on_validation(benchmark, 100, 3).test
    assert on_validation(benchmark, 20, 1).test == samples[1]


def test_the_limit_of_benchmarks_holds_for_validation_questions_and_keeps_the_answers_shares() -> None:
    suites = {
        limit: load_suite(read_sweep(composed(*COMMON, "split=validation", f"benchmark.limit={limit}", "seed=1")))
        for limit in ("6", "null")
    }
    for limited, whole in zip(*suites.values(), strict=True):
        counts = pd.Series([example.answer for example in limited.test]).value_counts()
        assert limited.test == on_validation(whole, 6, 1).test and len(limited.test) == 6 < len(whole.test)
        assert counts.max() - counts.min() <= 1, "answers of the embedded world come in equal numbers"


def test_bad_ranges_are_refused() -> None:
    with pytest.raises(ConfigError, match="low=1, high=1"):
        SearchRange(1, 1)
    with pytest.raises(ConfigError, match="low above 0 where log"):
        SearchRange(0, 1, log=True)
    with pytest.raises(ConfigError, match="tuning.search names no setting"):
        Tuning(trials=3)


def test_a_search_of_hydras_sees_the_validation_split_alone(
    shared_cache: Path, tiny_specialists: Specialists, tmp_path: Path
) -> None:
    spec = prepare(shared_cache, "method=average", "split=validation")
    execute_all([spec], tmp_path)
    score = objective(RunFolder(tmp_path / spec.name), spec)
    predictions = RunFolder(tmp_path / spec.name).read_predictions("drug_cell")
    other = prepare(shared_cache, "method=average")
    validation = {e.id for b in load_suite(other.sweep) if b.name == "drug_cell" for e in b.validation}
    assert set(predictions["id"]) < validation and len(predictions) == 12, "benchmark.limit holds here, too"
    values = RunFolder(tmp_path / spec.name).read_metrics().query("metric == 'accuracy'")["value"]
    assert score == pytest.approx(values.mean())
    execute_all([other], tmp_path)
    assert objective(RunFolder(tmp_path / other.name), other) is None, "a search must not see test questions"


def test_a_trial_merges_once_for_all_benchmarks(
    shared_cache: Path, tiny_specialists: Specialists, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merges: list[object] = []

    def counted(name: str, inputs: MergeInput, settings: Any) -> Merged:
        merges.append(settings)
        return merge(name, inputs, settings)

    monkeypatch.setattr("esmerge.experiment.merge_run.merge", counted)
    spec = prepare(shared_cache, "method=average", *TUNED)
    assert execute_all([spec], tmp_path) == []
    assert len(merges) == 4 + 1, "four trials and the merge that is kept"
