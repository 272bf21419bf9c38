"""Benchmarks: where their rows come from, how they are split, and how questions are worded.

A benchmark source is a function ``(settings, request) -> Benchmark`` registered under the name its config gives as
``source``. One benchmark is one file in ``conf/benchmark/``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from esmerge.core.prompts import Entity
from esmerge.core.registry import Registry
from esmerge.data.identity import STRICTEST

MAX_REJECTS = 0.05  # share of rows


class SourceConfig:
    """What the settings of every benchmark source offer; a source's settings derive from it."""

    def split_kind(self) -> str | None:
        """How rows are divided into sides, e.g. ``published`` or ``random``; None where there is nothing to choose."""
        return None

    def shot_identity(self) -> str:
        """Which molecules are one (``esmerge.data.identity``) when a solved example is told from its question."""
        return STRICTEST

    def reject_limit(self) -> float:
        """Largest share of the examples that may be refused before a load fails."""
        return MAX_REJECTS


class Refusals(Protocol):
    """What tells which entities cannot be perceived by those who will be asked.

    Attributes:
        key: what tells it from others, in one process.
    """

    @property
    def key(self) -> str: ...

    def reasons(self, entities: Iterable[Entity]) -> Mapping[Entity, str]:
        """Entity -> why it is refused, of those that are."""
        ...


SOURCES: Registry[None] = Registry("benchmark source", "esmerge.tasks.sources", "esmerge.sources", SourceConfig)


@dataclass(frozen=True)
class SuiteRequest:
    """The benchmarks of a suite, and what decides their questions.

    Attributes:
        names: config names of the benchmarks.
        overrides: settings that go before every benchmark's own (root, limit, ...), or one benchmark's whole config.
        language: which wording of the prompts the specialists understand.
        seed: fixes splits and subsampling.
        world: settings of the embedded world, if the specialists live in one.
    """

    names: tuple[str, ...]
    overrides: Mapping[str, object]
    language: str
    seed: int
    world: object | None = None


@dataclass(frozen=True)
class BenchmarkRequest:
    """What every benchmark source is given besides its own settings.

    Attributes:
        name: the benchmark's config name.
        title, family: as in ``Benchmark``.
        language: ``textbook``, ``english`` or ``brief``: which wording of the prompt the specialists understand.
        seed: fixes splits and subsampling.
        limit: at most this many test examples (a seeded, label-stratified sample); None for all.
        root: folder with the benchmark's tables; None for embedded benchmarks.
        world: settings of the embedded world, for embedded benchmarks only.
        shots: solved training examples before each test and validation question.
        shot_choice: the rule that chooses them (``esmerge.tasks.few_shot.api``).
        shot_separator: text after each; None for the language's own.
        protein_window: residues kept of a protein, from its start; None for all.
        seen: folder that lists what the specialists have seen (``esmerge.tasks.seen``); None to ask about all.

    A source returns the bare benchmark; ``esmerge.tasks.load`` applies the four before ``seen``.
    """

    name: str
    language: str
    seed: int
    limit: int | None = None
    root: str | None = None
    world: object | None = None
    title: str = ""
    family: str = "cross_modal"
    shots: int = 0
    shot_choice: str = "auto"
    shot_separator: str | None = None
    protein_window: int | None = None
    seen: str | None = None
