"""One specialist, taught on the user's own backbone: what ``python -m src.train specialist=NAME`` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

from esmerge.adapters.lora import LoraState
from esmerge.core.compose import compose_choice
from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Benchmark
from esmerge.core.schema import typed
from esmerge.evaluation.intervals import wilson
from esmerge.experiment.config import Compute
from esmerge.experiment.context import ExperimentContext
from esmerge.experiment.finetuner import FineTuner
from esmerge.experiment.predictor import Predictor
from esmerge.experiment.suite import on_validation
from esmerge.experiment.tune import accuracy
from esmerge.model.attach import adapter_digest
from esmerge.specialists.api import SPECIALISTS, Context
from esmerge.specialists.families.custom.family import learner
from esmerge.specialists.families.custom.settings import LearnerSettings
from esmerge.specialists.specialists import Specialists
from esmerge.storage.cache import digest
from esmerge.tasks.api import SuiteRequest
from esmerge.tasks.load import load_benchmark

BATCH = 16  # validation questions at once


@dataclass(frozen=True)
class Grade:
    """Validation questions of one benchmark.

    Attributes:
        questions: how many.
        accuracy: share that the specialist answers right.
        low, high: 95 % interval (Wilson) of that share.
        backbone: share that the bare backbone answers right.
    """

    questions: int
    accuracy: float
    low: float
    high: float
    backbone: float

    def __str__(self) -> str:
        return (
            f"{self.accuracy:.3f} [{self.low:.3f}, {self.high:.3f}] of {self.questions} validation questions, "
            f"{self.backbone:.3f} without the adapter"
        )


@dataclass(frozen=True)
class Taught:
    """A trained specialist.

    Attributes:
        specialists: the backbone, with this one's adapter alone.
        grades: benchmark -> what it answers of the validation questions.
    """

    specialists: Specialists
    grades: Mapping[str, Grade]


def read_learner(node: Mapping[str, object], expert: str) -> LearnerSettings:
    """What a composed ``specialists`` config says about teaching; adapters and encoders need not be there yet.

    Raises:
        ConfigError: these specialists are trained together, or nothing is said about teaching the expert.
    """
    schema = SPECIALISTS.get(str(node.get("kind", node.get("name")))).settings
    if not issubclass(schema, LearnerSettings):
        raise ConfigError(
            f"specialist={expert}: specialists={node.get('name')} are trained together, so leave specialist out; one "
            "is taught alone with specialists=llama31_8b, or specialists=custom and specialists.teaching"
        )
    names = {item.name for item in fields(LearnerSettings)}
    settings = typed(LearnerSettings, {key: value for key, value in node.items() if key in names}, "specialists")
    if expert not in settings.teaching:
        raise ConfigError(
            f"specialist={expert!r}: specialists.teaching names {', '.join(settings.teaching) or 'none'}: say there on "
            "which benchmarks it is taught"
        )
    return settings


def teach(settings: LearnerSettings, expert: str, context: Context) -> Taught:
    """Train the expert, or take it from the cache; a training that was stopped goes on from its last checkpoint.

    Raises:
        ConfigError: no root, or the backbone cannot be loaded.
        InputError: a table is missing or malformed.
    """
    benchmarks = [lesson_benchmark(settings, name, context.seed) for name in settings.teaching[expert].benchmarks]
    specialists = learner(settings, expert, context)
    benchmarks = [specialists.worded(benchmark) for benchmark in benchmarks]
    experiment = ExperimentContext(specialists, context.cache, context.device, context.seed)
    finetuner = FineTuner(experiment)
    first, *others = benchmarks
    adapter = finetuner.multitask(benchmarks) if others else finetuner.finetuned(first)
    grades = graded(experiment, adapter, benchmarks)
    fingerprint = digest([specialists.fingerprint, adapter_digest(adapter)])
    return Taught(replace(specialists, adapters={expert: adapter}, fingerprint=fingerprint), grades)


def lesson_benchmark(settings: LearnerSettings, name: str, seed: int) -> Benchmark:
    """A benchmark with all of its training questions.

    Raises:
        ConfigError: no root is set.
    """
    if settings.root is None:
        raise ConfigError(
            f"specialists.root is not set: give the folder that holds the tables of {name}, e.g. "
            "specialists.root=../data"
        )
    node = compose_choice("benchmark", name)
    limits = {"train_limit": None} if "train_limit" in node else {}
    overrides = {**node, "root": settings.root, **limits}
    return load_benchmark(SuiteRequest((name,), overrides, settings.language, seed), name)


def graded(context: ExperimentContext, adapter: LoraState, benchmarks: Sequence[Benchmark]) -> dict[str, Grade]:
    """What the bare backbone and the specialist answer of each benchmark's validation questions, if it has any."""
    predictor = Predictor(context, Compute(device=context.device, batch_size=BATCH))
    grades = {}
    for benchmark in benchmarks:
        if count := len(benchmark.validation):
            bare, adapted = (accuracy(predictor.predict(state, on_validation(benchmark))) for state in (None, adapter))
            grades[benchmark.name] = Grade(count, adapted, *wilson(round(adapted * count), count), bare)
    return grades
