"""Run every invariant on a merge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from esmerge.adapters.lora import SPACES
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.core.registry import Entry
from esmerge.merging.api import MERGES
from esmerge.testing.case import Case, cases_of, require
from esmerge.testing.inputs import STATISTIC_MAKERS, Shape, StatisticMaker
from esmerge.testing.invariants import INVARIANTS, Invariant

SHAPES = (Shape(count=3, layers=2, rank=2, seed=1), Shape(count=2, layers=3, rank=3, dtype=torch.bfloat16, seed=2))
KINDS = (MethodKind.MERGE, MethodKind.ES, MethodKind.CONTROL, MethodKind.TASK_AWARE)


def check_merge(
    method: str | Entry[MergeInfo],
    *,
    shapes: Sequence[Shape] = SHAPES,
    statistics: Mapping[str, StatisticMaker] | None = None,
) -> None:
    """Check a merge under its published settings, in each of its spaces and granularities.

    Args:
        method: config name of a registered merge, a plug-in's too, or an entry that is not registered.
        shapes: sizes and number formats of the random experts.
        statistics: name -> maker, of statistics that the merge needs and the project does not have.

    Raises:
        AssertionError: it breaks an invariant; the message names the invariant, the case and the reason.
        ConfigError: no merge of that name is registered.
    """
    entry = MERGES.get(method) if isinstance(method, str) else method
    record_is_complete(entry)
    for case in cases_of(entry, {**STATISTIC_MAKERS, **(statistics or {})}):
        for invariant in INVARIANTS:
            for shape in shapes if invariant.applies(case) else ():
                _check(invariant, case, shape)


def record_is_complete(entry: Entry[MergeInfo]) -> None:
    """A merge says what it is: title, source, a kind of merge, and merge spaces that exist."""
    info, name = entry.info, f"merge {entry.name!r}"
    require(isinstance(info, MergeInfo), f"{name} has {info!r} for a record, expected a MergeInfo")
    require(bool(info.title and info.source), f"{name} needs a title and a source in its MergeInfo")
    require(info.kind in KINDS, f"{name} is of kind {info.kind!r}, expected one of {', '.join(KINDS)}")
    has_spaces = bool(info.spaces) and set(info.spaces) <= set(SPACES)
    require(has_spaces, f"{name} has the merge spaces {info.spaces}, expected some of {', '.join(SPACES)}")


def _check(invariant: Invariant, case: Case, shape: Shape) -> None:
    try:
        invariant.check(case, shape)
    except Exception as error:  # an error where there should be none breaks the invariant as well
        fine = f", granularity={case.granularity}" if case.granularity else ""
        reason = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
        raise AssertionError(
            f"merge {case.entry.name!r} breaks the invariant '{invariant.name}' (merge_space={case.space}{fine}, "
            f"{shape}): {reason}"
        ) from error
