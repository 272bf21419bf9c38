"""What merges measure on data, one measure per file: a function ``(CalibrationData, settings) -> Statistics``.

A merge names the measures that it needs in ``MergeInfo.needs``, and ``statistics_settings`` of its settings says how
each is measured. Measures run once per specialists and data and are cached; the merges that use them stay pure
functions of tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from esmerge.core.prompts import Example, Prompt
from esmerge.core.registry import Registry
from esmerge.specialists.specialists import Specialists


@dataclass(frozen=True)
class StatisticInfo:
    """What a measure needs beside the probe.

    Attributes:
        questions: the test questions without their labels.
        gradients: a backward pass after each forward pass.
        fits: it is fitted step by step, so that settings decide how often prompts are read.
        stored_bytes: size of what it leaves of one expert, at most, from its settings, the in_features of every module,
            and the probe's tokens; None for a few numbers of each channel.
    """

    questions: bool = False
    gradients: bool = False
    fits: bool = False
    stored_bytes: Callable[[Any, Sequence[int], int], int] | None = None


STATISTICS: Registry[StatisticInfo] = Registry("measure", "esmerge.calibration.statistics", "esmerge.statistics")


@dataclass(frozen=True)
class CalibrationData:
    """What a measure may look at.

    Attributes:
        specialists: backbone, specialists and encoders.
        prompts: the probe's prompts, the same that ES-Merging reads; they hold no question and no label.
        batch_size: prompts per pass.
        seed: for measures that draw random numbers.
        space: the merge space.
        questions: test questions by benchmark; only for measures registered with ``questions=True``, which must not
            look at their answers.
    """

    specialists: Specialists
    prompts: Sequence[Prompt]
    batch_size: int
    seed: int = 0
    space: str = "delta"
    questions: Mapping[str, Sequence[Example]] = field(default_factory=dict)
