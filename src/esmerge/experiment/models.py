"""Everything of a job that runs on the language model, made together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from esmerge.adapters.dense import Update
from esmerge.adapters.lora import LoraState
from esmerge.core.prompts import Benchmark
from esmerge.experiment.config import Sweep
from esmerge.experiment.context import ExperimentContext, open_context
from esmerge.experiment.finetuner import FineTuner
from esmerge.experiment.predictor import Predictor
from esmerge.experiment.signals import Probe, SignalStore
from esmerge.experiment.statistics import StatisticsStore


@dataclass(frozen=True)
class Models:
    """What merges are measured with and what answers questions; references see it as ``ReferenceModel``."""

    context: ExperimentContext
    signals: SignalStore
    statistics: StatisticsStore
    predictor: Predictor
    finetuner: FineTuner
    suite: Sequence[Benchmark] = ()

    @property
    def adapters(self) -> Mapping[str, LoraState]:
        """Expert -> its adapter."""
        return self.context.specialists.adapters

    def predict(self, adapter: Update | None, benchmark: Benchmark) -> pd.DataFrame:
        """Predictions of the backbone under a merge; None is the bare one."""
        return self.predictor.predict(adapter, self.context.specialists.worded(benchmark))

    def finetuned(self, benchmark: Benchmark) -> LoraState:
        """An adapter trained on a benchmark's training split."""
        return self.finetuner.finetuned(self.context.specialists.worded(benchmark))

    def average_finetuned(self, benchmark: Benchmark) -> LoraState:
        """The average of all adapters, trained on at a benchmark's training split."""
        return self.finetuner.average_finetuned(self.context.specialists.worded(benchmark))

    def multitask(self) -> LoraState:
        """One adapter trained on the training splits of all benchmarks."""
        return self.finetuner.multitask(self.suite)

    def reporting(self, advance: Callable[[int], object]) -> Models:
        """The same, telling ``advance`` how many examples were answered."""
        return replace(self, predictor=replace(self.predictor, advance=advance))


def load_models(sweep: Sweep, suite: Sequence[Benchmark] = ()) -> Models:
    """Specialists as the sweep names them, and what works on them; quick where they are loaded already.

    Args:
        suite: benchmarks whose questions a measure may read, and on which one adapter may be trained together.
    """
    context = open_context(sweep)
    probe, suite = Probe(context, sweep.probe), [context.specialists.worded(benchmark) for benchmark in suite]
    return Models(
        context,
        SignalStore(context, probe, sweep.granularity.score),
        StatisticsStore(context, probe, suite),
        Predictor(context, sweep.compute),
        FineTuner(context),
        suite,
    )
