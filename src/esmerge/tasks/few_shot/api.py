"""Solved examples before a question (k-shot prompts): one file per rule that says which training examples they are.

A rule is a function ``Similarity -> SortKeys`` registered under the name that ``benchmark.shot_choice`` gives. A key is
the greater the better a training example suits a question. The most important key comes first; later ones break ties.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from esmerge.core.registry import Registry

SHOT_RULES: Registry[None] = Registry("shot choice", "esmerge.tasks.few_shot.rules")
SortKeys = list[NDArray[np.float64]]  # (questions, training examples) each


@dataclass(frozen=True)
class NoSettings:
    """The settings of a rule: there are none."""
