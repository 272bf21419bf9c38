"""Choose the training examples that are shown before each question."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Example, Prompt
from esmerge.tasks.few_shot.api import SHOT_RULES, SortKeys
from esmerge.tasks.few_shot.content import content
from esmerge.tasks.few_shot.similarity import compare_examples

PAIRS = 2_500_000  # of a question and a training example compared at once: a key takes 20 MB then


@lru_cache(maxsize=16)  # the jobs of a sweep ask the same questions; by content, since examples are
def choose_shots(
    questions: tuple[Example, ...],
    train: tuple[Example, ...],
    count: int,
    choice: str,
    seed: int,
    rule: str | None = None,
) -> tuple[tuple[Example, ...], ...]:
    """``count`` different training examples for each question, the most suitable last.

    They do not depend on the order of ``train``: equally suitable examples are taken in the order of their ids.

    Args:
        choice: the name of a rule in ``SHOT_RULES``.
        seed: of random choices.
        rule: which molecules are one (``esmerge.data.identity``): training examples that ask the same as a question are
            not shown before it; None shows them too.

    Raises:
        ConfigError: fewer training examples than are to be shown, or a choice that does not fit the questions.
        InputError: examples that cannot be compared.
    """
    if count > len(train):
        raise ConfigError(
            f"benchmark.shots={count}, but the training split holds {len(train)} examples: expected at most as many; "
            "lower it, or let the benchmark keep more training examples"
        )
    if not questions or not count:
        return ((),) * len(questions)
    ordered = sorted(train, key=lambda example: example.id)
    similarity = compare_examples(questions, ordered, seed)
    function = SHOT_RULES.get(choice).function
    twins = [list[int]() for _ in questions] if rule is None else _twins(questions, ordered, rule)
    for question, twin_rows in zip(questions, twins, strict=True):
        if len(twin_rows) + count > len(train):
            raise ConfigError(
                f"benchmark.shots={count}, but of {len(train)} training examples {len(twin_rows)} ask the same as "
                f"question {question.id} and are not shown before it: lower it, or keep more training examples"
            )
    selection: list[tuple[Example, ...]] = []
    block = max(1, PAIRS // len(train))
    for start in range(0, len(questions), block):
        first, *others = function(similarity.subset(slice(start, start + block)))
        keys = [_without(first, twins[start : start + block]), *others]
        for rows in rank_examples(keys, count):
            selection.append(tuple(ordered[row] for row in reversed(rows)))
    return tuple(selection)


def _twins(questions: Sequence[Example], train: Sequence[Example], rule: str) -> list[list[int]]:
    """For each question the rows of the training examples that ask the same."""
    rows_of: dict[Prompt, list[int]] = {}
    for row, example in enumerate(train):
        rows_of.setdefault(content(example, rule), []).append(row)
    return [rows_of.get(content(question, rule), []) for question in questions]


def _without(key: NDArray[np.float64], twins: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """The key with the rows of each question's twins last; (questions, training examples)."""
    if not any(twins):
        return key
    lowered = key.astype(np.float64, copy=True)
    for question, rows in enumerate(twins):
        lowered[question, list(rows)] = -np.inf
    return lowered


def rank_examples(keys: SortKeys, count: int) -> list[NDArray[np.int64]]:
    """For each question the ``count`` training examples with the greatest keys, best first.

    Args:
        keys: (questions, training examples) each; where one is equal the next decides, and then the lower row.
    """
    return [_top([key[question] for key in keys], count) for question in range(len(keys[0]))]


def _top(keys: Sequence[NDArray[np.float64]], count: int) -> NDArray[np.int64]:
    threshold = np.partition(keys[0], -count)[-count]
    candidates = np.flatnonzero(keys[0] >= threshold)  # few, so that sorting is cheap
    order = np.lexsort([candidates, *(-key[candidates] for key in reversed(keys))])
    return candidates[order[:count]]
