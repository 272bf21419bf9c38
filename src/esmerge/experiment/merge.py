"""One merge of a sweep: measure, tune if that was asked for, merge, store, and hand over what can be asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd

from esmerge.adapters.dense import as_adapter
from esmerge.adapters.lora import LoraState
from esmerge.adapters.peft_folder import save_adapter
from esmerge.coefficients.types import Granularity
from esmerge.core.cost import Cost, cost
from esmerge.core.prompts import Benchmark
from esmerge.core.timing import stage
from esmerge.experiment.card import model_card
from esmerge.experiment.plan import RunSpec
from esmerge.experiment.session import Session
from esmerge.experiment.tune import tune
from esmerge.merging.api import Merged, MergeRequest
from esmerge.merging.run import merge
from esmerge.report.figures import layer_weights
from esmerge.tracking.store import RunFolder

Ask = Callable[[Benchmark], pd.DataFrame]


def merged(spec: RunSpec, session: Session, run: RunFolder) -> Ask:
    """Merge, store what came out, and return how it is asked."""
    work = _Work(spec, session, *measure(spec, session))
    settings, granularity = spec.method.settings, spec.sweep.granularity if spec.uses_granularity else None
    if spec.tuned:
        settings, granularity = tune(spec, session, run, work.ask)
    with run.stage("merge"), cost(session.device) as merging:
        made = {task: work.merge(settings, granularity, task) for task in work.tasks()}
    run.write_costs({"measuring": asdict(work.measuring), "merging": asdict(merging)})
    base = session.team.backbone.name
    for task, one in made.items():
        if one.coefficients is not None:
            run.write_coefficients(one.coefficients.tensors())
            if one.coefficients.errors:
                run.write_layer_coefficients(one.coefficients.layer_rows())
        shares = layer_weights(run.coefficients) if one.coefficients is not None else None
        card = model_card(spec, list(session.team.adapters), settings, granularity, shares)
        place = run.path / (f"adapters/{'+'.join(task)}" if spec.per_task else "adapter")
        save_adapter(one.state if isinstance(one.state, LoraState) else as_adapter(one.state), place, base, card)
    return lambda benchmark: session.ask(made[work.task(benchmark)].state, benchmark)


def measure(spec: RunSpec, session: Session) -> tuple[MergeRequest, Cost]:
    """Everything that the merge may look at, and what that cost when it was measured."""
    space, costs = str(spec.space), []
    inputs = MergeRequest(session.team.adapters, space, spec.sweep.seed)
    if spec.uses_granularity:
        signals, spent = session.signals(space)
        distances, measuring = session.distances(space)
        inputs = replace(inputs, signals=signals, distances=distances)
        costs += [spent, measuring]
    measured = {}
    for name in spec.measures:
        measured[name], spent = session.measure(name, getattr(spec.method.settings, name), space)
        costs.append(spent)
    memory = [spent.memory for spent in costs if spent.memory is not None]
    total = Cost(round(sum(spent.seconds for spent in costs), 3), max(memory) if memory else None)
    return replace(inputs, measured=measured), total


@dataclass(frozen=True)
class _Work:
    """A merge with everything that it may look at."""

    spec: RunSpec
    session: Session
    inputs: MergeRequest
    measuring: Cost

    def merge(self, settings: Any, granularity: Granularity | None, task: tuple[str, ...] = ()) -> Merged:
        with stage("merging"):
            inputs = replace(self.inputs, granularity=granularity, task=task)
            made = merge(self.spec.method.name, inputs, settings)
            return replace(made, state=made.state.materialize())

    def ask(
        self, settings: Any, granularity: Granularity | None, benchmarks: Sequence[Benchmark]
    ) -> list[pd.DataFrame]:
        """Merge with other settings, once for each task, and ask."""
        tasks = dict.fromkeys(map(self.task, benchmarks))
        made = {task: self.merge(settings, granularity, task).state for task in tasks}
        return [self.session.ask(made[self.task(benchmark)], benchmark) for benchmark in benchmarks]

    def task(self, benchmark: Benchmark) -> tuple[str, ...]:
        """The experts whose modality a benchmark's questions hold, all if none; empty where one merge is for all."""
        if not self.spec.per_task:
            return ()
        seen, own = {entity.modality for entity in benchmark.test[0].entities()}, self.session.team.own
        return tuple(expert for expert, modality in own.items() if modality in seen) or tuple(own)

    def tasks(self) -> list[tuple[str, ...]]:
        """Every task of the suite, once."""
        return list(dict.fromkeys(self.task(benchmark) for benchmark in self.session.benchmarks()))
