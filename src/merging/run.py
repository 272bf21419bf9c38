"""The one way in: look a merge up, check that it may run, run it, and check what it returns."""

from __future__ import annotations

from typing import Any

import torch

from src.errors import AdapterError, ConfigError
from src.merging import MERGES, Merged, MergeInput
from src.registry import Entry
from src.specialists.lora import LoraState, check_finite, check_mergeable


def merge(name: str, inputs: MergeInput, settings: Any) -> Merged:
    """Merge the experts by the merge registered as ``name``.

    Args:
        name: config name of the merge.
        inputs: the experts, the space and, for merges that need them, signals and granularity.
        settings: an instance of the settings dataclass that the merge was registered with.

    Raises:
        ConfigError: the merge is unknown, lacks the space or granularity, or was given other settings than its own.
        AdapterError: the experts cannot be merged, or the result is incomplete or not finite.
    """
    entry = MERGES.get(name)
    _check_request(entry, inputs, settings)
    check_mergeable(inputs.experts, inputs.space, getattr(settings, "fold_scales", False))
    with torch.no_grad():
        merged = entry.function(inputs, settings)
    _check_result(name, inputs, merged.state)
    return merged


def _check_request(entry: Entry, inputs: MergeInput, settings: Any) -> None:
    if not isinstance(settings, entry.settings):
        raise ConfigError(f"merge {entry.name!r} takes {entry.settings.__name__}, got {type(settings).__name__}")
    spaces = entry.facts["spaces"]
    if inputs.space not in spaces:
        raise ConfigError(f"merge {entry.name!r} has no merge_space={inputs.space}: it has {', '.join(spaces)}")
    if not entry.facts["needs_signals"]:
        return
    if inputs.signals is None or inputs.granularity is None:
        raise ConfigError(f"merge {entry.name!r} needs a probe's signals and a granularity: give it both")
    allowed = entry.facts.get("granularities")
    if allowed is not None and inputs.granularity.name not in allowed:
        raise ConfigError(
            f"merge {entry.name!r} has no granularity={inputs.granularity.name}: it has {', '.join(allowed)}"
        )


def _check_result(name: str, inputs: MergeInput, state: LoraState) -> None:
    first = next(iter(inputs.experts.values()))
    wrong = [
        module
        for module, factors in first.modules.items()
        if module not in state.modules
        or (state.modules[module].b.shape[0], state.modules[module].a.shape[1])
        != (factors.b.shape[0], factors.a.shape[1])
    ]
    extra = sorted(set(state.modules) - set(first.modules))
    if wrong or extra:
        raise AdapterError(
            f"merge {name!r} left modules unmerged or misshapen: {', '.join(wrong) or 'none'}; "
            f"and added {', '.join(extra) or 'none'}"
        )
    check_finite(state, f"merged by {name}")
