"""The blocks of a table, by what a method is, and how a row's title is put together."""

from __future__ import annotations

from collections.abc import Mapping

from esmerge.core.methods import MethodKind, MethodRecord

BLOCKS: Mapping[MethodKind, str] = {  # in the order of a table
    MethodKind.FLOOR: "Floors",
    MethodKind.REFERENCE: "References",
    MethodKind.MERGE: "Merges",
    MethodKind.ES: "ES-Merging",
    MethodKind.CONTROL: "Controls of ES-Merging",
    MethodKind.TASK_AWARE: "Merges that see the test task or its inputs",
}
MERGED = (MethodKind.MERGE, MethodKind.ES)  # what competes for the best merge


def row_rank(record: MethodRecord, method: str) -> tuple[int, int, str]:
    """Sort key of a row: its block, its rank there, and among equal ranks the config name."""
    return list(BLOCKS).index(record.kind), record.rank, method


def row_title(method: str, *details: str) -> str:
    """What a reader calls a row, e.g. ``ES-Merging (joint, factors)``; empty details are left out."""
    text = ", ".join(filter(None, details))
    return f"{method} ({text})" if text else method
