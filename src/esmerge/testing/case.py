"""One merge in one of its spaces and granularities, with the inputs that it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from esmerge.adapters.dense import DenseState, Update
from esmerge.adapters.lora import LoraState
from esmerge.coefficients.types import ESConfig
from esmerge.core.methods import MergeInfo
from esmerge.core.registry import Entry
from esmerge.merging.api import Merged, MergeRequest
from esmerge.merging.run import run
from esmerge.testing.inputs import STATISTIC_MAKERS, StatisticMaker, make_signals

PROJECTIONS = 8  # random directions of the probe's distances: few, since nothing here depends on their precision


@dataclass(frozen=True)
class Case:
    """A merge as it is checked.

    Attributes:
        entry: the merge.
        space: one of its merge spaces.
        granularity: one of its granularities; None where it has none.
        statistics: name -> maker, of the statistics that it may need.
    """

    entry: Entry[MergeInfo]
    space: str
    granularity: str | None = None
    statistics: Mapping[str, StatisticMaker] = field(default_factory=lambda: STATISTIC_MAKERS)

    @property
    def info(self) -> MergeInfo:
        return self.entry.info

    def settings(self, **changes: object) -> object:
        """The merge's published settings, with changes; ``AssertionError`` if it lacks one that is to be changed."""
        unknown = sorted(set(changes) - {item.name for item in fields(self.entry.settings)})
        require(not unknown, f"its settings {self.entry.settings.__name__} have no {', '.join(unknown)}")
        return replace(self.entry.settings(), **changes)

    def inputs(
        self, experts: Mapping[str, LoraState], seed: int = 0, constants: Mapping[str, float] | None = None
    ) -> MergeRequest:
        """What the merge needs on ``experts``: signals, statistics and a task only where it uses them.

        Args:
            constants: fields of ``ESConfig`` that differ from their defaults.

        Raises:
            AssertionError: it needs a statistic that nobody makes.
        """
        unknown = sorted(set(self.info.needs) - set(self.statistics))
        require(not unknown, f"it needs {', '.join(unknown)}: give check_merge statistics={{name: maker}} for that")
        measured = {name: self.statistics[name](experts, self.space, seed) for name in self.info.needs}
        inputs = MergeRequest(experts, self.space, seed, statistics=measured, task=(sorted(experts)[0],))
        if not self.info.needs_signals:
            return inputs
        granularity = ESConfig(self.granularity or "joint", projections=PROJECTIONS)
        granularity = replace(granularity, **(constants or {}))  # type: ignore[arg-type]
        return replace(inputs, signals=make_signals(experts, self.space, seed), granularity=granularity)

    def merge(self, inputs: MergeRequest, settings: object = None) -> Merged:
        """Merge, under the published settings unless others are given."""
        return run(self.entry, inputs, self.settings() if settings is None else settings)

    def merged(self, experts: Mapping[str, LoraState], **changes: object) -> Update:
        """The merge of ``experts`` under the published settings with changes."""
        return self.merge(self.inputs(experts), self.settings(**changes)).state


def cases_of(entry: Entry[MergeInfo], statistics: Mapping[str, StatisticMaker] = STATISTIC_MAKERS) -> list[Case]:
    """A merge in each of its spaces and granularities."""
    granularities = entry.info.granularities or (None,)
    return [Case(entry, space, fine, statistics) for space in entry.info.spaces for fine in granularities]


def require(condition: bool, message: str) -> None:
    """Raise ``AssertionError`` with the message unless the condition holds, under ``python -O`` too."""
    if not condition:
        raise AssertionError(message)


def dense(state: Update) -> dict[str, Tensor]:
    """Module -> dense update in double precision, (out_features, in_features)."""
    if isinstance(state, DenseState):
        return {module: update.double() for module, update in state.modules.items()}
    return {module: f.scale * f.b.double() @ f.a.double() for module, f in state.modules.items()}


def distance(state: Update, expected: Mapping[str, Tensor]) -> float:
    """Largest relative Frobenius distance between an adapter's updates and given dense ones."""
    updates = dense(state)
    return max(
        float((updates[module] - delta).norm() / delta.norm().clamp_min(1e-12)) for module, delta in expected.items()
    )


def tolerance(dtype: torch.dtype) -> float:
    """Relative error that storing factors in ``dtype`` may cause: a few roundings."""
    return 3e-2 if dtype == torch.bfloat16 else 1e-5


def require_close(state: Update, expected: Mapping[str, Tensor], dtype: torch.dtype, what: str) -> None:
    """Raise ``AssertionError`` unless an adapter's updates are the expected ones, up to rounding."""
    error = distance(state, expected)
    require(error < tolerance(dtype), f"{what}: off by {error:.2g} of the update's norm")  # NaN is off too
