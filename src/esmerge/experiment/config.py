"""From composed config to typed settings: a wrong name or value fails here, before a model loads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from omegaconf import DictConfig

from esmerge.adapters.lora import SPACES
from esmerge.baselines.api import FLOORS, REFERENCES
from esmerge.coefficients.estimation import check_granularity
from esmerge.coefficients.types import ESConfig
from esmerge.core.errors import ConfigError
from esmerge.core.methods import MergeInfo, ReferenceInfo
from esmerge.core.names import check_name
from esmerge.core.paths import user_path
from esmerge.core.registry import Registry
from esmerge.core.schema import Selection, choose, plain, typed
from esmerge.core.validation import at_least
from esmerge.experiment.search import Tuning
from esmerge.merging.api import MERGES
from esmerge.merging.ops.settings import EXACT
from esmerge.model.scoring import MODES
from esmerge.model.threads import AUTO, check_threads
from esmerge.probe.api import PROBES
from esmerge.specialists.api import SPECIALISTS
from esmerge.tasks.api import SuiteRequest
from esmerge.tracking.wandb_settings import Tracking

SPLITS = ("test", "validation")
VALUES = ("sweep", "resume", "merge_space", "references", "seed", "split", "cache")  # the keys that are no groups


@dataclass(frozen=True)
class Suite:
    """A list of benchmarks by config name."""

    name: str
    benchmarks: list[str]


@dataclass(frozen=True)
class Compute:
    """Where and how the work runs.

    Attributes:
        device: where models run and merges are computed: ``cpu``, ``cuda``, …
        threads: CPU threads of torch; ``auto`` measures and chooses, None is torch's own choice.
        batch_size: prompts scored at once.
        resamples: of the bootstrap behind the intervals of every metric that is no share of answers.
        scoring: how a question is answered: by the label of the highest log-likelihood (``loglik``), of the highest
            mean per token (``loglik_normalised``), or by the label in the text that the model writes (``generate``).
        max_new_tokens: where ``generate`` cuts a text off.
    """

    device: str = "cpu"
    threads: int | str | None = AUTO
    batch_size: int = 64
    resamples: int = 1000
    scoring: str = MODES[0]
    max_new_tokens: int = 16

    def __post_init__(self) -> None:
        at_least(self, "compute", 1, "batch_size", "resamples", "max_new_tokens")
        check_threads(self.threads, "compute.threads")
        if self.scoring not in MODES:
            raise ConfigError(f"compute.scoring={self.scoring!r}: expected one of {', '.join(MODES)}")
        try:
            device = torch.device(self.device)
        except RuntimeError as error:
            raise ConfigError(f"compute.device={self.device!r}: {str(error).splitlines()[0]}") from error
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ConfigError(f"compute.device={self.device}: torch sees no GPU here, use compute.device=cpu")

    def scoring_overrides(self) -> dict[str, str | int]:
        """The settings of scoring that differ from the default; empty for the default."""
        if self.scoring == MODES[0]:
            return {}
        limit = {"max_new_tokens": self.max_new_tokens} if self.scoring == "generate" else {}
        return {"scoring": self.scoring, **limit}


@dataclass(frozen=True)
class Sweep:
    """The checked configuration of one job of a sweep.

    Attributes:
        raw: the resolved config as plain containers.
        benchmark: settings of every benchmark of the suite (root, limit), or one benchmark's whole config.
        references: config names of the methods that stand in every table; ``name@space`` fixes a merge space.
        tuning: whether, and how, the job's method is tuned on the validation split.
        split: which questions are answered: ``test``, or ``validation`` for searches.
        sweep, resume: which folder is written; Hydra reads them before any job starts.
    """

    specialists: Selection
    probe: Selection
    granularity: ESConfig
    method: Selection
    merge_space: str | None
    suite: Suite
    benchmark: dict[str, object]
    tracking: Tracking
    compute: Compute
    tuning: Tuning
    references: list[str]
    seed: int
    split: str
    cache: str
    sweep: str | None = None
    resume: str | None = None
    raw: dict[str, Any] = field(repr=False, default_factory=dict)

    def suite_request(self) -> SuiteRequest:
        """The benchmarks to load, those of the suite or the one of ``benchmark=NAME``, with their settings."""
        name, specialists = self.benchmark.get("name"), self.specialists.settings
        return SuiteRequest(
            names=(str(name),) if name else tuple(self.suite.benchmarks),
            overrides=self.benchmark,
            language=specialists.language,
            seed=self.seed,
            world=specialists.embedded_world(),
        )


def read_sweep(cfg: DictConfig) -> Sweep:
    """Check a composed sweep config.

    Raises:
        ConfigError: naming the key, its value, and what was expected.
    """
    raw = plain(cfg)
    _check_keys(raw)
    for group in ("benchmark", "granularity", "suite"):  # the others' names are checked where they are chosen
        if (name := raw[group].get("name")) is not None:
            check_name(str(name), f"{group}.name")
    granularity = typed(ESConfig, raw["granularity"], "granularity")
    check_granularity(granularity)
    if raw["merge_space"] not in (None, *SPACES):
        raise ConfigError(
            f"merge_space={raw['merge_space']!r}: expected one of {', '.join(SPACES)}, or null for the method's own"
        )
    method = choose_method(raw["method"])
    check_axes(method, raw["merge_space"], granularity)
    return Sweep(
        specialists=choose(SPECIALISTS, raw["specialists"], "specialists"),
        probe=choose(PROBES, raw["probe"], "probe"),
        granularity=granularity,
        method=method,
        merge_space=raw["merge_space"],
        suite=typed(Suite, raw["suite"], "suite"),
        benchmark=raw["benchmark"],
        tracking=typed(Tracking, raw["tracking"], "tracking"),
        compute=typed(Compute, raw["compute"], "compute"),
        tuning=typed(Tuning, raw["tuning"], "tuning"),
        references=_names(raw["references"], "references"),
        seed=_whole(raw["seed"], "seed"),
        split=_split(raw["split"]),
        cache=str(user_path(_text(raw["cache"], "cache"), "cache")),
        sweep=None if raw["sweep"] is None else str(raw["sweep"]),
        resume=raw["resume"],
        raw=raw,
    )


def choose_method(node: Mapping[str, object]) -> Selection:
    """A merge, a reference or a floor, by its config."""
    name = node.get("kind", node.get("name"))
    registries: tuple[Registry[MergeInfo] | Registry[ReferenceInfo], ...] = (MERGES, REFERENCES, FLOORS)
    for registry in registries:
        if name in registry.names():
            return choose(registry, node, "method")
    names = ", ".join(sorted(method for registry in registries for method in registry.names()))
    raise ConfigError(f"unknown method {name!r}: expected one of {names}")


def check_axes(method: Selection, space: str | None, granularity: ESConfig) -> None:
    """Refuse a merge space or granularity that the method does not have, naming those it has."""
    spaces = method.entry.info.spaces
    if space is not None and spaces and space not in spaces:
        raise ConfigError(f"method={method.name} has no merge_space={space}: it has {', '.join(spaces)}")
    rank = getattr(method.settings, "rank", EXACT)
    if space == "factors" and rank != EXACT:
        raise ConfigError(
            f"method.rank={rank} truncates dense updates, and merge_space=factors has none: the merge has the experts' "
            "rank; leave method.rank out, or say merge_space=delta"
        )
    granularities = method.entry.info.granularities
    if granularities and granularity.name not in granularities:
        allowed = ", ".join(granularities)
        raise ConfigError(f"method={method.name} has no granularity={granularity.name}: it has {allowed}")


def _check_keys(raw: Mapping[str, object]) -> None:
    """Refuse top-level keys that are not a sweep's, and groups that are not there."""
    allowed = [f.name for f in dataclasses.fields(Sweep) if f.name != "raw"]
    unknown = sorted(set(raw) - set(allowed))
    if unknown:
        raise ConfigError(f"{', '.join(unknown)}: not a setting of a sweep, expected one of {', '.join(allowed)}")
    absent = [name for name in allowed if name not in raw or (name not in VALUES and not isinstance(raw[name], dict))]
    if absent:
        raise ConfigError(f"{', '.join(absent)} must be given: a sweep consists of {', '.join(allowed)}")


def _names(value: object, path: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ConfigError(f"{path}={value!r}: expected a list of names, such as [base,expert]")
    return value


def _text(value: object, path: str) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{path}={value!r}: expected a folder")
    return value


def _split(value: object) -> str:
    if value not in SPLITS:
        raise ConfigError(f"split={value!r}: expected {' or '.join(SPLITS)}")
    return str(value)


def _whole(value: object, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"{path}={value!r}: expected a whole number from 0")
    return value
