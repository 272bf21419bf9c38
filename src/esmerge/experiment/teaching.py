"""One specialist, taught on the user's own backbone: what ``python -m src.train specialist=NAME`` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from esmerge.adapters.lora import LoraState
from esmerge.core.compose import compose_choice
from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Benchmark
from esmerge.core.schema import typed
from esmerge.experiment.config import Compute
from esmerge.experiment.context import ExperimentContext
from esmerge.experiment.finetuner import FineTuner
from esmerge.experiment.predictor import Predictor
from esmerge.experiment.suite import on_validation
from esmerge.specialists.api import SPECIALISTS, Context
from esmerge.specialists.families.custom.family import learner
from esmerge.specialists.families.custom.settings import LearnerSettings
from esmerge.tasks.api import SuiteRequest
from esmerge.tasks.load import load_benchmark

BATCH = 16  # validation questions at once


@dataclass(frozen=True)
class Taught:
    """A trained specialist.

    Attributes:
        adapter: its LoRA.
        backbone: what it was trained on.
        figures: benchmark -> what it answers of the validation questions, in words.
    """

    adapter: LoraState
    backbone: str
    figures: Mapping[str, str]


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
    return Taught(adapter, specialists.backbone.name, examined(experiment, adapter, benchmarks))


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
    limits = {key: None for key in ("train_limit",) if key in node}
    overrides = {**node, "root": settings.root, **limits}
    return load_benchmark(SuiteRequest((name,), overrides, settings.language, seed), name)


def examined(context: ExperimentContext, adapter: LoraState, benchmarks: Sequence[Benchmark]) -> dict[str, str]:
    """What the bare backbone and the specialist answer of each benchmark's validation questions."""
    predictor = Predictor(context, Compute(device=context.device, batch_size=BATCH))
    figures = {}
    for benchmark in benchmarks:
        if count := len(benchmark.validation):
            frames = [predictor.predict(state, on_validation(benchmark)) for state in (None, adapter)]
            before, after = (float((frame["prediction"] == frame["label"]).mean()) for frame in frames)
            figures[benchmark.name] = f"{after:.3f} of {count} validation questions, {before:.3f} without the adapter"
    return figures
