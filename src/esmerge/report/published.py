"""Numbers that others reported, to be shown beside ours and never mixed with them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from esmerge.core.paths import PUBLISHED
from esmerge.report.load import Row
from esmerge.report.methods import row_title
from esmerge.storage.files import read_table

CAVEAT = "as reported, secondary source"


@dataclass(frozen=True)
class Published:
    """A method as others reported it.

    Attributes:
        method: its config name here, if it has one.
        granularity, merge_space: of the reported method; empty where it has none, or where any will do.
        title: what a reader calls it.
    """

    method: str
    granularity: str
    merge_space: str
    title: str

    def is_of(self, row: Row) -> bool:
        """Whether a row is that method; a row without a merge space may stand for any."""
        return (
            row.method == self.method
            and self.granularity in ("", row.granularity)
            and (row.merge_space in ("", self.merge_space) or not self.merge_space)
        )


def read_published(path: Path = PUBLISHED) -> dict[str, dict[Published, float]]:
    """Benchmark -> method -> accuracy in percent; empty if the file is not there."""
    reported: dict[str, dict[Published, float]] = {}
    for row in _accuracies(path):
        reported.setdefault(str(row["benchmark"]), {})[_method(row)] = float(str(row["value"]))
    return reported


def read_sources(path: Path = PUBLISHED) -> dict[tuple[str, Published], str]:
    """Benchmark and method -> where its accuracy was reported; empty if the file is not there."""
    return {(str(row["benchmark"]), _method(row)): str(row["source"]) for row in _accuracies(path)}


def _accuracies(path: Path) -> list[dict[Hashable, object]]:
    if not path.exists():
        return []
    table = read_table(path, numbers=("value",))
    return table[table["metric"] == "accuracy"].to_dict("records")


def _method(row: Mapping[Hashable, object]) -> Published:
    return Published(*(str(row[key]) for key in ("method", "granularity", "merge_space", "title")))


def sources(path: Path = PUBLISHED) -> list[str]:
    """Where the numbers come from, each source once."""
    return sorted(set(read_table(path)["source"])) if path.exists() else []


def assign(rows: Sequence[Row], methods: Sequence[Published]) -> tuple[dict[str, Published], list[Published]]:
    """Which row shows which published method: (row key -> method, methods without a row). The first match takes it."""
    assignment: dict[str, Published] = {}
    for row in rows:
        match = next((method for method in methods if method.is_of(row)), None)
        if match is not None and match not in assignment.values():
            assignment[row.key] = match
    return assignment, [method for method in dict.fromkeys(methods) if method not in assignment.values()]


def published_title(method: Published) -> str:
    """What a reader calls a published row that has no counterpart here."""
    return row_title(method.title, method.granularity)


def shown(columns: Sequence[str], table: Mapping[str, Mapping[Published, float]]) -> list[Published]:
    """All published methods that any of the columns has, in the file's order."""
    return list(dict.fromkeys(method for name in columns for method in table.get(name, {})))
