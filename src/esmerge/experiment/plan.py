"""Which runs a job consists of: the references that stand in every table, and the merge that the config names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from esmerge.baselines.references.expert import ExpertSettings
from esmerge.core.compose import choices, compose_choices
from esmerge.core.errors import ConfigError
from esmerge.core.methods import MethodInfo, MethodRecord
from esmerge.core.schema import Selection
from esmerge.experiment.config import Sweep, check_axes, choose_method
from esmerge.tasks.load import PANELS
from esmerge.tracking.store import config_hash


@dataclass(frozen=True)
class RunSpec:
    """One run.

    Attributes:
        method: the merge or reference that the run carries out.
        space: merge space; None for references.
        sweep: the job it belongs to.
        config: everything that decides its results, as plain values.
        tuned: whether the method's numbers are tuned on the validation split before the test.
    """

    method: Selection
    space: str | None
    sweep: Sweep
    config: dict[str, object]
    tuned: bool = False

    @property
    def info(self) -> MethodInfo:
        """What the method is."""
        info: MethodInfo = self.method.entry.info
        return info

    @property
    def uses_granularity(self) -> bool:
        """Whether granularity is an axis of this run."""
        return self.info.needs_signals

    @property
    def statistics_needed(self) -> tuple[str, ...]:
        """Names of the statistics that the merge reads."""
        return self.info.needs

    @property
    def uses_probe(self) -> bool:
        """Whether the probe is an axis of this run."""
        return self.info.needs_probe

    @property
    def per_task(self) -> bool:
        """Whether there is a merge of its own for each set of experts that a question concerns."""
        return self.info.per_task

    @property
    def is_merge(self) -> bool:
        return bool(self.info.spaces)

    @property
    def uses_model(self) -> bool:
        """False for floors, which need no language model."""
        return self.info.needs_model

    @property
    def expert(self) -> str | None:
        """The specialist that answers alone; None for every other method."""
        settings = self.method.settings
        return settings.expert if isinstance(settings, ExpertSettings) else None

    @property
    def label(self) -> str:
        """``method`` in the results: the config name; specialists as ``expert:NAME``."""
        return f"{self.method.name}:{self.expert}" if self.expert else self.method.name

    @property
    def title(self) -> str:
        """What a reader calls the method; a specialist by its name."""
        if self.expert is None:
            return self.info.title
        return f"{self.expert.replace('_', ' ')} {self.info.title.lower()}".capitalize()

    @property
    def record(self) -> MethodRecord:
        """What the run says of its method."""
        return MethodRecord(self.info.kind, self.title, self.info.rank, self.info.finetuned)

    @property
    def hash(self) -> str:
        return config_hash(self.config)

    @property
    def name(self) -> str:
        """Folder name: readable, and unique by the hash of its config."""
        parts = [self.label.replace(":", "-")]
        parts += [self.sweep.granularity.name] if self.uses_granularity else []
        parts += [self.sweep.probe.name] if self.uses_probe else []
        parts += [self.space] if self.space else []
        parts += ["tuned"] if self.tuned else []
        parts += _shots(self.sweep.benchmark)
        return "-".join([*parts, f"s{self.sweep.seed}", self.hash[:6]])

    def axes(self) -> dict[str, object]:
        """This run's cells in the axis columns of ``results.csv``."""
        return {
            "run": self.name,
            "specialists": self.sweep.specialists.name,
            "method": self.label,
            "granularity": self.sweep.granularity.name if self.uses_granularity else None,
            "probe": self.sweep.probe.name if self.uses_probe else None,
            "merge_space": self.space,
            "seed": self.sweep.seed,
        }


def _shots(benchmark: Mapping[str, object]) -> list[str]:
    """How many solved examples precede a question, and the rule that selects them if it is not the default."""
    shots, choice = benchmark.get("shots"), benchmark.get("shot_choice")
    if not shots:
        return []
    return [f"{shots}shots", *([str(choice)] if choice not in (None, "auto") else [])]


def plan_runs(sweep: Sweep) -> list[RunSpec]:
    """The references in the order of the config, then the job's own run; each once.

    A job's own run that is a reference as well stands last all the same, since a search judges a trial by it.

    Raises:
        ConfigError: a reference is unknown or lacks its merge space, or the specialists cannot make the probe that a
            run reads.
    """
    configs = reference_configs(sweep.references)
    references = [spec for name, node in configs.items() for spec in _reference(sweep, name, node)]
    own = _runs(sweep, sweep.method, sweep.raw["method"], sweep.merge_space, tune=sweep.tuning.trials > 0)
    specs = {spec.name: spec for spec in [*references, *own]}
    for spec in own:  # a key of a dict that is set again keeps its first place
        specs[spec.name] = specs.pop(spec.name)
    if sweep.probe.settings.own_entities and any(spec.uses_probe for spec in specs.values()):
        sweep.specialists.settings.check_probe(sweep.probe.name)
    return list(specs.values())


def reference_configs(references: Sequence[str]) -> dict[str, dict[str, object]]:
    """Each reference (``name`` or ``name@space``) with the config of its method.

    Raises:
        ConfigError: there is no such method, with those that there are; or its config cannot be composed.
    """
    methods = {name: name.partition("@")[0] for name in references}
    offered = choices("method")
    for method in methods.values():
        if method not in offered:
            raise ConfigError(f"references names the method {method!r}: expected one of {', '.join(offered)}")
    configs = compose_choices("method", methods.values())
    return {name: configs[method] for name, method in methods.items()}


def _reference(sweep: Sweep, name: str, node: dict[str, object]) -> list[RunSpec]:
    method, _, space = name.partition("@")
    if space and not choose_method(node).entry.info.spaces:
        raise ConfigError(f"references names {name!r}: {method} does not merge, so it has no merge space")
    return _runs(sweep, choose_method(node), node, space or None)


def _runs(
    sweep: Sweep, method: Selection, node: dict[str, object], space: str | None, tune: bool = False
) -> list[RunSpec]:
    if isinstance(method.settings, ExpertSettings):
        expert = method.settings.expert
        if expert is None:
            nodes = [{**node, "expert": name} for name in experts_of(sweep)]
            return [run for single in nodes for run in _runs(sweep, choose_method(single), single, None)]
        if expert not in experts_of(sweep):
            raise ConfigError(f"method.expert={expert!r}: expected one of {', '.join(experts_of(sweep))}")
    check_axes(method, space, sweep.granularity)
    spaces: Sequence[str] = method.entry.info.spaces
    merge_space = (space or spaces[0]) if spaces else None
    tuned = tune and bool(spaces)
    return [RunSpec(method, merge_space, sweep, _config(sweep, method, node, merge_space, tuned), tuned)]


def experts_of(sweep: Sweep) -> list[str]:
    """Names of the specialists, as their config lists them."""
    return list(sweep.specialists.settings.experts)


def as_typed(node: Mapping[str, object], settings: object) -> dict[str, object]:
    """A config's values with a whole number as a float where the setting is one, so that 1 and 1.0 are one setting."""
    return {key: _as_typed(value, getattr(settings, key, None)) for key, value in node.items()}


def _as_typed(value: object, setting: object) -> object:
    if isinstance(value, Mapping):
        return as_typed(value, setting)
    return float(value) if isinstance(setting, float) and isinstance(value, int) and value == setting else value


def _config(
    sweep: Sweep, method: Selection, node: dict[str, object], space: str | None, tuned: bool
) -> dict[str, object]:
    info: MethodInfo = method.entry.info
    config = {
        "specialists": sweep.raw["specialists"],
        "method": as_typed(node, method.settings),
        "merge_space": space,
        "seed": sweep.seed,
        "suite": sweep.raw["suite"],
        "benchmark": {key: value for key, value in sweep.benchmark.items() if value is not None or key not in PANELS},
        "resamples": sweep.compute.resamples,
    }
    if info.needs_signals:
        config |= {"granularity": sweep.raw["granularity"]}
    if info.needs_probe:
        config |= {"probe": sweep.raw["probe"]}
    if tuned:
        config |= {"tuning": sweep.raw["tuning"]}
    if sweep.split != "test":
        config |= {"split": sweep.split}
    if info.needs_model:
        config |= sweep.compute.scoring_overrides()
    return config
