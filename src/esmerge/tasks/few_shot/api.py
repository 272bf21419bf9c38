"""Solved examples before a question (k-shot prompts): one file per rule that says which training examples they are.

A rule is a function ``Likeness -> Keys`` registered under the name that ``benchmark.shot_choice`` gives: numbers that
are greater the better a training example suits a question, the most important first; later ones break ties.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from esmerge.core.registry import Registry

CHOICES: Registry[None] = Registry("shot choice", "esmerge.tasks.few_shot.rules")
Keys = list[NDArray[np.float64]]  # (questions, training examples) each


@dataclass(frozen=True)
class Nothing:
    """A rule has nothing to set."""
