"""What kinds of methods a table holds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class MethodKind(StrEnum):
    """What a method is, said where it is registered and recorded in every run."""

    FLOOR = "floor"  # needs no language model
    REFERENCE = "reference"  # bare backbone, single specialists, fine-tuned adapters
    MERGE = "merge"
    ES = "es"  # ES-Merging itself
    CONTROL = "control"  # of ES-Merging; does not compete
    TASK_AWARE = "task-aware"  # a merge that sees the test task or its inputs; does not compete


@dataclass(frozen=True)
class MethodRecord:
    """What every run says of its method; tables read it there and ask no registry.

    Attributes:
        kind: the block of a table that it belongs to.
        title: what a reader calls it.
        rank: its place among the rows of its kind, the lowest first; equal ones stand by config name.
        finetuned: whether a language model learnt from the benchmark's own training split. Such a reference is no
            rival of a merge, which sees no question.
    """

    kind: MethodKind
    title: str
    rank: int = 100
    finetuned: bool = False


@dataclass(frozen=True)
class ReferenceInfo:
    """What a reference or a floor is.

    Attributes:
        title: what a reader calls it.
        kind: ``FLOOR`` or ``REFERENCE``.
        source: where it was published, if it was.
        rank: its place among the rows of its kind, the lowest first; equal ones stand by name.
        finetuned: whether a language model learns from the benchmarks' own training splits.
    """

    title: str
    kind: MethodKind
    source: str = ""
    rank: int = 100
    finetuned: bool = False
    spaces: ClassVar[tuple[str, ...]] = ()
    granularities: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()
    per_task: ClassVar[bool] = False
    needs_signals: ClassVar[bool] = False
    needs_probe: ClassVar[bool] = False

    @property
    def needs_model(self) -> bool:
        """False for floors."""
        return self.kind is not MethodKind.FLOOR


@dataclass(frozen=True)
class MergeInfo:
    """What a merge is and what it needs.

    Attributes:
        title: what a reader calls it.
        source: where it was published.
        kind: ``MERGE``, ``ES``, ``CONTROL`` or ``TASK_AWARE``.
        rank: its place among the rows of its kind, the lowest first; equal ones stand by name.
        spaces: the merge spaces that it has, the published one first.
        granularities: of the probe's signals that weigh it; none if it reads no signals.
        needs: names of the statistics that it reads; ``statistics_settings`` of its settings says how each is measured.
        convex: whether its weights sum to 1 over the experts, so that identical experts return themselves.
        per_task: whether there is a merge of its own for each set of experts that a question concerns.
        elementwise: whether its weights differ from entry to entry although it reads no signals.
        ours: dotted names of settings whose default is this project's choice and not the authors'.
    """

    title: str
    source: str
    kind: MethodKind
    spaces: tuple[str, ...]
    granularities: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    convex: bool = False
    per_task: bool = False
    elementwise: bool = False
    ours: tuple[str, ...] = ()
    rank: int = 100
    finetuned: ClassVar[bool] = False

    @property
    def needs_signals(self) -> bool:
        """Whether granularity is an axis of the merge."""
        return bool(self.granularities)

    @property
    def needs_probe(self) -> bool:
        """Whether the probe is an axis of the merge."""
        return self.needs_signals or bool(self.needs)

    @property
    def needs_model(self) -> bool:
        """Whether answering questions takes a language model: always."""
        return True


MethodInfo = MergeInfo | ReferenceInfo
