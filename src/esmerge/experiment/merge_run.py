"""One merge of a sweep: probe, signals, coefficients, merge, store; then it can answer questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd
import torch

from esmerge.adapters.dense import as_adapter
from esmerge.adapters.lora import LoraState
from esmerge.adapters.peft_folder import save_adapter
from esmerge.coefficients.summary import CoefficientSummary, summarise
from esmerge.coefficients.types import Coefficients, ESConfig
from esmerge.core.arrays import as_arrays
from esmerge.core.cost import Cost, cost
from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Benchmark
from esmerge.core.timing import stage
from esmerge.experiment.card import model_card
from esmerge.experiment.models import Models
from esmerge.experiment.plan import RunSpec
from esmerge.experiment.tune import tune
from esmerge.merging.api import MergeConfig, Merged, MergeRequest
from esmerge.merging.run import merge
from esmerge.tracking.store import RunFolder

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Task = tuple[str, ...]
"""Experts that a question concerns; empty where one merge answers everything."""


@dataclass(frozen=True)
class Method:
    """What answers a run's questions.

    Attributes:
        predict: benchmark and models -> predictions; floors get no models.
        summary: of a merge's coefficients, if it has any.
    """

    predict: Callable[[Benchmark, Models | None], pd.DataFrame]
    summary: CoefficientSummary | None = None


def carry_out_merge(spec: RunSpec, suite: Sequence[Benchmark], models: Models, run: RunFolder) -> Method:
    """Measure, tune if the run is tuned, merge, store."""
    inputs, measuring = gather_inputs(spec, models)
    merger = Merger(spec, inputs, models.context.specialists.expert_modality)
    settings, granularity = spec.method.settings, spec.sweep.granularity if spec.uses_granularity else None
    if spec.tuned:
        settings, granularity = tune(spec, suite, run, lambda *trial: merger.predict_all(models, *trial))
    with run.stage("merge"), cost(models.context.device) as merging:
        merges = merger.merge_all(settings, granularity, suite)
    run.write_costs({"measuring": asdict(measuring), "merging": asdict(merging)})
    summaries = [store_merge(spec, models, run, task, merged, settings, granularity) for task, merged in merges.items()]

    def predict(benchmark: Benchmark, reporting: Models | None) -> pd.DataFrame:
        return (reporting or models).predict(merges[merger.task(benchmark)].state, benchmark)

    return Method(predict, next((summary for summary in summaries if summary is not None), None))


def gather_inputs(spec: RunSpec, models: Models) -> tuple[MergeRequest, Cost]:
    """Everything that the merge may look at, and what that cost when it was measured."""
    space, costs = str(spec.space), []
    inputs = MergeRequest(models.adapters, space, spec.sweep.seed, device=torch.device(models.context.device))
    if spec.uses_granularity:
        signals, signals_cost = models.signals.signals(space)
        distances, distances_cost = models.signals.distances(space, spec.sweep.granularity)
        inputs = replace(inputs, signals=signals, distances=distances)
        costs += [signals_cost, distances_cost]
    statistics = {}
    for name, settings in statistics_settings(spec).items():
        statistics[name], statistics_cost = models.statistics.measure(name, settings, space)
        costs.append(statistics_cost)
    return replace(inputs, statistics=statistics), Cost.total(costs)


def statistics_settings(spec: RunSpec) -> dict[str, object]:
    """Name of each statistic that a merge needs -> the settings that it is measured with.

    Raises:
        ConfigError: the merge's settings lack one.
    """
    settings: MergeConfig = spec.method.settings
    offered = settings.statistics_settings()
    for name in spec.statistics_needed:
        if name not in offered:
            raise ConfigError(
                f"method={spec.method.name} needs the statistic {name!r}, but its settings do not say how it is "
                f"measured: return it from {type(settings).__name__}.statistics_settings"
            )
    return {name: offered[name] for name in spec.statistics_needed}


@dataclass(frozen=True)
class Merger:
    """A merge with everything that it may look at.

    Attributes:
        spec: which merge.
        inputs: experts, signals, statistics.
        expert_modality: expert -> the modality it perceives.
    """

    spec: RunSpec
    inputs: MergeRequest
    expert_modality: Mapping[str, str]

    def merge(self, settings: DataclassInstance, granularity: ESConfig | None, task: Task = ()) -> Merged:
        """Coefficients and merge, the result in memory."""
        with stage("merging"):
            inputs = replace(self.inputs, granularity=granularity, task=task)
            merged = merge(self.spec.method.name, inputs, settings)
            return replace(merged, state=merged.state.materialize())

    def merge_all(
        self, settings: DataclassInstance, granularity: ESConfig | None, suite: Sequence[Benchmark]
    ) -> dict[Task, Merged]:
        """One merge for each task of the suite."""
        return {task: self.merge(settings, granularity, task) for task in dict.fromkeys(map(self.task, suite))}

    def predict_all(
        self, models: Models, settings: DataclassInstance, granularity: ESConfig | None, suite: Sequence[Benchmark]
    ) -> list[pd.DataFrame]:
        """Merge with other settings, and predict on benchmarks."""
        merges = self.merge_all(settings, granularity, suite)
        return [models.predict(merges[self.task(benchmark)].state, benchmark) for benchmark in suite]

    def task(self, benchmark: Benchmark) -> Task:
        """The experts whose modality a benchmark's questions hold, all if none; empty where one merge is for all."""
        if not self.spec.per_task:
            return ()
        present = {entity.modality for entity in benchmark.test[0].entities()}
        experts = tuple(expert for expert, modality in self.expert_modality.items() if modality in present)
        return experts or tuple(self.expert_modality)


def store_merge(
    spec: RunSpec,
    models: Models,
    run: RunFolder,
    task: Task,
    merged: Merged,
    settings: DataclassInstance,
    granularity: ESConfig | None,
) -> CoefficientSummary | None:
    """Write the adapter with its card and, where the merge has them, its coefficients; returns their summary."""
    summary = None if merged.coefficients is None else store_coefficients(run, merged.coefficients)
    shares = None if summary is None else (summary.experts, summary.layer_shares)
    card = model_card(spec, list(models.adapters), settings, granularity, shares)
    folder = run.path / (f"adapters/{'+'.join(task)}" if spec.per_task else "adapter")
    adapter = merged.state if isinstance(merged.state, LoraState) else as_adapter(merged.state)
    save_adapter(adapter, folder, models.context.specialists.backbone.name, card)
    return summary


def store_coefficients(run: RunFolder, coefficients: Coefficients) -> CoefficientSummary:
    """Write coefficients and, where they are known, their standard errors and the distances they came from."""
    tensors = coefficients.tensors()
    run.write_coefficients(tensors)
    if coefficients.errors:
        run.write_layer_coefficients(coefficients.layer_rows())
    if coefficients.distances is not None:
        run.write_layer_distances(coefficients.distances.rows())
    return summarise(as_arrays(tensors))
