"""What merges measure on data, from the cache where it is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from esmerge.calibration.api import STATISTICS, CalibrationData
from esmerge.calibration.stored import load_statistics, save_statistics
from esmerge.calibration.types import Statistics
from esmerge.core.cost import Cost, cost, load_cost, save_cost
from esmerge.core.errors import NumberError
from esmerge.core.prompts import Benchmark
from esmerge.core.timing import stage
from esmerge.experiment.context import ExperimentContext
from esmerge.experiment.signals import Probe
from esmerge.storage.code import closure_digest


@dataclass(frozen=True)
class StatisticsStore:
    """Statistics of the experts on the probe's prompts or on test questions without their answers.

    Attributes:
        context: who is measured.
        probe: the prompts.
        suite: whose test questions a measure may read, if it says that it does.
    """

    context: ExperimentContext
    probe: Probe
    suite: Sequence[Benchmark]

    def measure(self, name: str, settings: object, space: str) -> tuple[Statistics, Cost]:
        """One measure, and what it cost when it was made.

        Args:
            name: of the registered measure.
            settings: an instance of its settings.
            space: the merge space that it is measured for.
        """
        entry = STATISTICS.get(name)
        questions = {benchmark.name: benchmark.test for benchmark in self.suite} if entry.info.questions else {}
        key = {
            **self.probe.key(),
            "measure": (name, repr(settings), closure_digest(entry.function)),
            "space": space,
            "seed": self.context.seed,
            "questions": repr([(e.prompt, e.labels) for examples in questions.values() for e in examples]),
        }

        def make(folder: Path) -> None:
            context, probe = self.context, self.probe
            material = CalibrationData(
                context.specialists, probe.prompts, probe.batch_size, context.seed, space, questions
            )
            with cost(context.device) as statistics_cost:
                measured = entry.function(material, settings)
            try:
                save_statistics(measured, folder)
            except NumberError as error:
                raise NumberError(f"statistic {name!r}: {error}") from error
            save_cost(statistics_cost, folder)

        with stage("measures"):
            folder = self.context.cache.folder("measures", key, make)
            return load_statistics(folder), load_cost(folder)
