"""The one way in: look a merge up, check that it may run, run it, and check what it returns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from esmerge.adapters.dense import DenseState, Update, checked
from esmerge.adapters.experts import validate_experts
from esmerge.adapters.lora import LoraFactors, LoraState, check_finite
from esmerge.calibration.types import BACKBONE, on_device
from esmerge.core.errors import AdapterError, ConfigError
from esmerge.core.methods import MergeInfo
from esmerge.core.registry import Entry
from esmerge.merging.api import MERGES, Merged, MergeInput, MergeRequest


def merge(name: str, inputs: MergeRequest, settings: Any) -> Merged:
    """Merge the experts by the merge registered as ``name``; see ``run``.

    Raises:
        ConfigError: the merge is unknown, or as ``run`` raises it.
        AdapterError: as ``run`` raises it.
    """
    return run(MERGES.get(name), inputs, settings)


def run(entry: Entry[MergeInfo], inputs: MergeRequest, settings: Any) -> Merged:
    """Merge the experts by a merge, registered or not.

    Args:
        entry: the merge.
        inputs: the experts, the space and, for merges that need them, signals and granularity. Adapters on disk are
            read when the result is; ``experts.reading()`` around both keeps their files open.
        settings: an instance of the settings dataclass that the merge was registered with.

    Returns:
        The merged adapter or dense updates, which may be computed when they are read.

    Raises:
        ConfigError: the merge lacks the space or granularity, or was given other settings than its own.
        AdapterError: the experts cannot be merged, or the result is incomplete or not finite.
    """
    _check_request(entry, inputs, settings)
    experts = validate_experts(inputs.experts, inputs.space, settings.folds_scales())
    statistics = {measure: on_device(values, inputs.device) for measure, values in inputs.statistics.items()}
    placed = {**vars(inputs), "experts": experts.on_device(inputs.device), "statistics": statistics}
    with torch.no_grad():
        merged: Merged = entry.function(MergeInput(**placed), settings)
    return replace(merged, state=_checked(entry.name, inputs, merged.state))


def _check_request(entry: Entry[MergeInfo], inputs: MergeRequest, settings: Any) -> None:
    if not isinstance(settings, entry.settings):
        raise ConfigError(f"merge {entry.name!r} takes {entry.settings.__name__}, got {type(settings).__name__}")
    spaces = entry.info.spaces
    if inputs.space not in spaces:
        raise ConfigError(f"merge {entry.name!r} has no merge_space={inputs.space}: it has {', '.join(spaces)}")
    _check_statistics(entry, inputs)
    if entry.info.per_task and (not inputs.task or not set(inputs.task) <= set(inputs.experts)):
        raise ConfigError(f"merge {entry.name!r} needs to know the task: name some of {', '.join(inputs.experts)}")
    if not entry.info.needs_signals:
        return
    if inputs.signals is None or inputs.granularity is None:
        raise ConfigError(f"merge {entry.name!r} needs a probe's signals and a granularity: give it both")
    allowed = entry.info.granularities
    if inputs.granularity.name not in allowed:
        raise ConfigError(
            f"merge {entry.name!r} has no granularity={inputs.granularity.name}: it has {', '.join(allowed)}"
        )


def _check_statistics(entry: Entry[MergeInfo], inputs: MergeRequest) -> None:
    for measure in entry.info.needs:
        statistics = inputs.statistics.get(measure)
        if not statistics:
            raise ConfigError(f"merge {entry.name!r} needs the measure {measure!r}: give it that")
        missing = [] if set(statistics) == {BACKBONE} else sorted(set(inputs.experts) - set(statistics))
        if missing:
            raise ConfigError(f"merge {entry.name!r}: the measure {measure!r} lacks the experts {', '.join(missing)}")


def _checked(name: str, inputs: MergeRequest, state: Update) -> Update:
    """The result with all modules; their shapes and values are checked when they are read."""
    first = next(iter(inputs.experts.values()))
    shapes = {module: entry.shape for module, entry in first.header.items()}
    if isinstance(state, DenseState):
        return checked(state, f"merge {name!r}", shapes)
    missing, extra = set(shapes) - set(state.modules), set(state.modules) - set(shapes)
    if missing or extra:
        raise AdapterError(
            f"merge {name!r} left modules unmerged: {', '.join(sorted(missing)) or 'none'}; and added "
            f"{', '.join(sorted(extra)) or 'none'}"
        )

    def read(module: str) -> LoraFactors:
        with torch.no_grad():
            factors = state.modules[module]
        shape = factors.header.shape
        if shape != shapes[module]:
            raise AdapterError(f"merge {name!r} left {module} misshapen: {shape}, expected {shapes[module]}")
        check_finite(LoraState({module: factors}), f"merged by {name}")
        return factors

    return state.passed_through(read, finite=True)
