"""Every registered merge as a run: measured, merged, asked and stored; what it stores is what was asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from tests.conftest import composed

from esmerge.adapters.dense import DenseState, as_adapter
from esmerge.adapters.peft_folder import load_adapter
from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Reject
from esmerge.experiment.config import read_sweep
from esmerge.experiment.merge_run import statistics_settings
from esmerge.experiment.models import load_models
from esmerge.experiment.pipeline import execute_all
from esmerge.experiment.plan import RunSpec, plan_runs
from esmerge.experiment.records import write_rejects
from esmerge.experiment.statistics import StatisticsStore
from esmerge.experiment.suite import load_suite
from esmerge.merging.api import MERGES, MergeConfig
from esmerge.specialists.specialists import Specialists
from esmerge.tracking.store import RunFolder

COMMON = ("specialists=textbook_tiny", "benchmark.limit=6", "probe.samples=4", "granularity.projections=8",
          "suite.benchmarks=[drug_cell,molecule_class]", "references=[]", "tracking=disabled",
          "compute.resamples=10")  # fmt: skip
QUICK = {
    "expert_merging": ("method.alignment.steps=2",),
    "nsc": ("method.null_space.steps=2",),
    "adamerging": ("method.entropy.steps=2", "method.entropy.batch=2"),
    "fisher": ("method.fisher.samples=3",),
    "es_magnitude": ("granularity=element",),
}
CASES = [(name, space) for name in MERGES.names() for space in MERGES.get(name).info.spaces]


def prepare(cache: Path, *overrides: str) -> RunSpec:
    return plan_runs(read_sweep(composed(*COMMON, f"cache={cache}", *overrides)))[-1]


@pytest.mark.parametrize(("name", "space"), CASES)
def test_every_merge_runs_end_to_end(
    name: str, space: str, shared_cache: Path, tiny_specialists: Specialists, tmp_path: Path
) -> None:
    before = {key: tensor.clone() for key, tensor in tiny_specialists.backbone.model.state_dict().items()}
    spec = prepare(shared_cache, f"method={name}", f"merge_space={space}", *QUICK.get(name, ()))
    assert execute_all([spec], tmp_path) == []
    run = RunFolder(tmp_path / spec.name)
    assert set(run.read_metrics()["benchmark"]) == {"drug_cell", "molecule_class"}
    costs = run.read_costs()
    assert costs["merging"]["seconds"] > 0
    assert (costs["measuring"]["seconds"] > 0) == (spec.uses_probe or bool(spec.statistics_needed))
    folders = [run.path / "adapter"] if not spec.per_task else sorted((run.path / "adapters").iterdir())
    for folder in folders:
        adapter = load_adapter(folder, name)
        assert list(adapter.modules) == list(tiny_specialists.adapters["molecule"].modules)
        assert (folder / "README.md").read_text().count(MERGES.get(name).info.title)
    after = load_models(spec.sweep).context.specialists.backbone.model.state_dict()
    assert all(torch.equal(after[key], tensor) for key, tensor in before.items())


def test_the_distances_behind_layer_wise_coefficients_are_stored(
    shared_cache: Path, tiny_specialists: Specialists, tmp_path: Path
) -> None:
    spec = prepare(shared_cache, "method=es", "granularity=layer")
    execute_all([spec], tmp_path)
    run = RunFolder(tmp_path / spec.name)
    table = run.read_layer_distances()
    assert table is not None and set(table["expert"]) == set(tiny_specialists.adapters)
    assert (table[table["own"]].groupby("expert")["modality"].nunique() == 1).all()
    assert (table["distance"] >= 0).all() and "layer_distances.csv" in run.status().checksums


def test_a_merge_that_knows_the_task_has_one_adapter_for_each(
    shared_cache: Path, tiny_specialists: Specialists, tmp_path: Path
) -> None:
    spec = prepare(shared_cache, "method=emr")
    execute_all([spec], tmp_path)
    folder = tmp_path / spec.name / "adapters"
    assert {path.name for path in folder.iterdir()} == {"molecule+cell", "molecule"}
    cross_modal, molecule = (load_adapter(folder / task, task).tensors() for task in ("molecule+cell", "molecule"))
    assert any(not torch.equal(cross_modal[key], molecule[key]) for key in cross_modal)


def test_a_dense_update_is_stored_as_an_adapter_that_answers_alike(
    shared_cache: Path, tiny_specialists: Specialists, tmp_path: Path
) -> None:
    spec = prepare(shared_cache, "method=ties")
    execute_all([spec], tmp_path)
    adapter = load_adapter(tmp_path / spec.name / "adapter", "ties")
    (benchmark, _) = load_suite(spec.sweep)
    answers = RunFolder(tmp_path / spec.name).read_predictions(benchmark.name)
    predictions = load_models(spec.sweep).predict(adapter, benchmark)
    assert predictions["prediction"].tolist() == answers["prediction"].tolist()
    torch.testing.assert_close(
        torch.tensor(predictions["score"].to_numpy()), torch.tensor(answers["score"].to_numpy()), rtol=1e-3, atol=1e-4
    )


def test_full_rank_factors_lose_nothing_whichever_side_is_wider() -> None:
    draw = torch.Generator().manual_seed(0)
    names = [f"base_model.model.model.layers.{layer}.q" for layer in range(2)]
    updates = {name: torch.randn(*shape, generator=draw) for name, shape in zip(names, ((3, 5), (5, 3)), strict=True)}
    adapter = as_adapter(DenseState(updates, "backbone", {"note": 1}))
    assert adapter.base_model == "backbone" and adapter.notes == {"note": 1}
    for name, update in updates.items():
        assert torch.equal(adapter.modules[name].delta(), update) and adapter.modules[name].rank == 3


def test_a_merge_that_does_not_say_how_a_statistic_is_measured_is_refused(shared_cache: Path) -> None:
    aim = prepare(shared_cache, "method=aim")
    silent = replace(aim, method=replace(aim.method, settings=MergeConfig()))
    assert list(statistics_settings(aim)) == ["channels"]
    with pytest.raises(ConfigError, match="method=aim needs the statistic 'channels'.*MergeConfig.statistics_settings"):
        statistics_settings(silent)


def test_measures_are_kept_by_what_decides_them(shared_cache: Path, tiny_specialists: Specialists) -> None:
    def count() -> int:
        return sum(path.is_dir() for path in (shared_cache / "measures").glob("[!.]*"))

    def statistics(*overrides: str) -> StatisticsStore:
        return load_models(prepare(shared_cache, "method=aim", *overrides).sweep).statistics

    settings = prepare(shared_cache, "method=aim").method.settings.channels
    first, cost = statistics().measure("channels", settings, "delta")
    before = count()
    second, second_cost = statistics().measure("channels", settings, "delta")
    assert count() == before and second_cost == cost
    for expert, tensors in first.items():
        assert all(torch.equal(tensors[key], second[expert][key]) for key in tensors)
    statistics("method.omega=0.9", "method.scale=2").measure("channels", settings, "delta")
    assert count() == before, "what comes after the measure is not its business"
    statistics("probe.samples=5").measure("channels", settings, "delta")
    assert count() == before + 1


def test_refused_rows_are_kept_with_their_reason(
    shared_cache: Path, tiny_specialists: Specialists, tmp_path: Path
) -> None:
    (first, second) = load_suite(prepare(shared_cache).sweep)
    benchmark = replace(first, rejects=(Reject("pairs.csv:3", "label '7' is not one of 0, 1"),))
    write_rejects(tmp_path, [benchmark, second], seed=0)
    rejects = pd.read_csv(tmp_path / "rejects" / f"{first.name}.csv")
    assert rejects[["row", "reason"]].to_dict("records") == [
        {"row": "pairs.csv:3", "reason": "label '7' is not one of 0, 1"}
    ]
    assert [path.name for path in (tmp_path / "rejects").iterdir()] == [f"{first.name}.csv"]
