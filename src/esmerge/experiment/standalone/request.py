"""From the composed config of ``python -m src.merge`` to a request that is checked before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig

from esmerge.adapters.lora import SPACES
from esmerge.calibration.api import STATISTICS
from esmerge.coefficients.estimation import check_granularity
from esmerge.coefficients.types import ESConfig
from esmerge.core.errors import ConfigError
from esmerge.core.methods import MethodInfo
from esmerge.core.paths import user_path
from esmerge.core.schema import Selection, choose, plain, typed
from esmerge.core.validation import at_least
from esmerge.experiment.config import Compute, Suite, Sweep, check_axes, choose_method
from esmerge.experiment.plan import RunSpec, plan_runs
from esmerge.experiment.search import Tuning
from esmerge.experiment.standalone.coefficient_files import CoefficientFiles
from esmerge.probe.api import PROBES
from esmerge.specialists.api import SPECIALISTS
from esmerge.specialists.families.custom.settings import CustomSettings
from esmerge.tracking.wandb_settings import Tracking

OF_EXPERTS = ("backbone", "experts", "encoders", "allow_partial", "allow_other_base")
REPLACEABLE = ("adapter_config.json", "config.json")  # a folder with one of these may be replaced
GROUPS = ("probe", "granularity", "method", "compute")


@dataclass(frozen=True)
class Output:
    """What is written.

    Attributes:
        out: the folder.
        overwrite: whether a folder that is there is replaced.
        bake: whether a whole model is written instead of an adapter.
        dry_run: whether nothing is written at all.
        merge_space: ``factors``, ``delta`` or None for the method's own.
        seed: of random directions and of methods that draw.
        cache: folder for the probe's signals; None not to keep them.
        coefficients: files that weigh the merge in place of a probe.
    """

    out: str | None = None
    overwrite: bool = False
    bake: bool = False
    dry_run: bool = False
    merge_space: str | None = None
    seed: int = 0
    cache: str | None = None
    coefficients: CoefficientFiles = field(default_factory=CoefficientFiles)

    def __post_init__(self) -> None:
        at_least(self, "merge", 0, "seed")
        if self.merge_space not in (None, *SPACES):
            raise ConfigError(
                f"merge_space={self.merge_space!r}: expected one of {', '.join(SPACES)}, or null for the method's own"
            )
        if not self.out:
            raise ConfigError("out is not set: give the folder that the merge is written to")
        check_replaceable(self.out, self.folder, self.overwrite)

    @property
    def folder(self) -> Path:
        """The folder's absolute path."""
        return user_path(str(self.out), "out").absolute()


@dataclass(frozen=True)
class StandaloneRequest:
    """A merge, its experts and where it is written, all checked.

    Attributes:
        spec: the merge, as a sweep would carry it out.
        experts: whose adapters.
        output: what is written.
    """

    spec: RunSpec
    experts: CustomSettings
    output: Output

    @property
    def probe(self) -> Selection | None:
        """The probe, if one is read."""
        return self.spec.sweep.probe if self.spec.uses_probe and not self.output.coefficients.used else None


def check_replaceable(out: str | None, folder: Path, overwrite: bool) -> None:
    """Refuse to replace a folder without ``overwrite``, or one that no merge or training wrote; ``ConfigError``."""
    if not folder.exists():
        return
    if not overwrite:
        raise ConfigError(f"out={out} exists: give another folder, or say overwrite=true to replace it")
    is_merge_output = any((folder / name).is_file() for name in REPLACEABLE)
    if not folder.is_dir() or (any(folder.iterdir()) and not is_merge_output):
        raise ConfigError(f"out={out} holds no adapter and no model, and is not replaced: give another folder")


def read_request(cfg: DictConfig) -> StandaloneRequest:
    """Check a composed config.

    Raises:
        ConfigError: naming the key, its value, and what was expected.
    """
    raw = plain(cfg)
    compute = dict(raw["compute"])
    specialists = {**{key: raw[key] for key in OF_EXPERTS}, "dtype": compute.pop("dtype", "auto")}
    output_settings = {key: value for key, value in raw.items() if key not in (*OF_EXPERTS, *GROUPS)}
    output = typed(Output, output_settings, "merge")
    method = _method(raw["method"])
    sweep = Sweep(
        specialists=choose(SPECIALISTS, {"name": "custom", **specialists}, "custom"),
        probe=choose(PROBES, raw.get("probe") or {"name": "text"}, "probe"),
        granularity=typed(ESConfig, raw["granularity"], "granularity"),
        method=method,
        merge_space=output.merge_space,
        suite=Suite("none", []),
        benchmark={},
        tracking=Tracking(mode="disabled"),
        compute=typed(Compute, compute, "compute"),
        tuning=Tuning(),
        references=[],
        seed=output.seed,
        split="test",
        cache=str(user_path(output.cache, "cache")) if output.cache else "",
        raw={**raw, "specialists": specialists, "suite": {}, "benchmark": {}, "probe": raw.get("probe")},
    )
    check_granularity(sweep.granularity)
    check_axes(method, sweep.merge_space, sweep.granularity)
    request = StandaloneRequest(plan_runs(sweep)[-1], sweep.specialists.settings, output)
    output.coefficients.check(method.name, request.spec.space, request.experts.described())
    _check_probe(request)
    _check_inputs_stay(request)
    return request


def _method(node: Mapping[str, object]) -> Selection:
    """A merge that needs no benchmark."""
    method = choose_method(node)
    info: MethodInfo = method.entry.info
    if not info.spaces:
        raise ConfigError(f"method={method.name} is a reference for benchmarks, not a merge: choose a merge such as es")
    if info.per_task:
        raise ConfigError(f"method={method.name} makes one adapter for each task, and a merge on its own has none")
    on_questions = [name for name in info.needs if STATISTICS.get(name).info.questions]
    if on_questions:
        raise ConfigError(
            f"method={method.name} measures {', '.join(on_questions)} on a benchmark's questions, and a merge on its "
            "own has none: use python -m src.sweep specialists=custom"
        )
    return method


def _check_probe(request: StandaloneRequest) -> None:
    if request.probe is None:
        return
    if not request.probe.settings.source_files():
        line = json.dumps(dict.fromkeys(request.experts.described(), "…"), ensure_ascii=False)
        raise ConfigError(
            f"method={request.spec.method.name} reads a probe: give probe.file=FILE, JSON lines such as {line}"
        )


def _check_inputs_stay(request: StandaloneRequest) -> None:
    """Refuse to write over, or into, what is read, and over the cache."""
    out = request.output.folder.resolve()
    inputs = {f"experts.{name}": expert.path for name, expert in request.experts.described().items()}
    encoders = {f"encoders.{name}": str(node["path"]) for name, node in request.experts.encoders.items()}
    others = {
        "backbone": request.experts.source().path,
        "cache": request.spec.sweep.cache,
        **{f"coefficients.{key}": getattr(request.output.coefficients, key) for key in ("layer", "element")},
        **({what: str(path) for what, path in request.probe.settings.source_files().items()} if request.probe else {}),
    }
    for key, path in {**inputs, **encoders, **{key: path for key, path in others.items() if path}}.items():
        folder = user_path(path, key)
        is_used = folder.exists() or key == "cache"
        if is_used and (out == folder.resolve() or out in folder.resolve().parents):
            raise ConfigError(
                f"out={request.output.out} would replace {key}={path}, which is used: give another folder"
            )
