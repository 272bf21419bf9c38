"""What any source of answers is read into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

Key = tuple[str, str]
"""Seed (or epoch) and benchmark."""


@dataclass(frozen=True)
class AnsweredSet:
    """One benchmark as one method answered it.

    Attributes:
        answers: columns ``id, label, prediction``; right where the last two are equal.
        checksum: of the tables that the ids point into; empty where nothing is known of them.
        metric: that says what is right, where another program's did.
        has_text: False where an id is a mere number of which nobody knows what it asked.
    """

    answers: pd.DataFrame
    checksum: str = ""
    metric: str = ""
    has_text: bool = True


@dataclass(frozen=True)
class Answers:
    """Everything of one source.

    Attributes:
        name: what a reader calls the source.
        methods: method -> seed and benchmark -> answers.
        settings: method -> dotted name -> value; empty where nothing is known of them.
        titles: benchmark -> what a reader calls it, where it has a title.
        notes: what was left out, a sentence each.
    """

    name: str
    methods: Mapping[str, Mapping[Key, AnsweredSet]]
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
