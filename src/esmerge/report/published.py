"""Numbers that others reported, to be shown beside ours and never mixed with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from esmerge.core.paths import PUBLISHED
from esmerge.report.load import Row
from esmerge.report.methods import title
from esmerge.storage.files import read_table

NAMES = {"best_single": "Best single specialist", "average_finetuned": "Average, then fine-tuned"}
CAVEAT = "as reported, secondary source"


def read_published(path: Path = PUBLISHED) -> dict[str, dict[str, float]]:
    """Benchmark -> method -> accuracy in percent; empty if the file is not there."""
    found: dict[str, dict[str, float]] = {}
    if not path.exists():
        return found
    table = read_table(path, numbers=("value",))
    for row in table[table["metric"] == "accuracy"].to_dict("records"):
        found.setdefault(str(row["benchmark"]), {})[str(row["method"])] = float(row["value"])
    return found


def sources(path: Path = PUBLISHED) -> list[str]:
    """Where the numbers come from, each source once."""
    return sorted(set(read_table(path)["source"])) if path.exists() else []


def published_name(row: Row) -> str:
    """The name a row has in the file; the paper's ES-Merging combines factors."""
    if row.method == "es":
        return f"es_{row.granularity}" if row.merge_space in ("factors", "") else ""
    return row.method


def assign(rows: Sequence[Row], methods: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Which row shows which published method: (row key -> method, methods without a row). The first match takes it."""
    taken: dict[str, str] = {}
    for row in rows:
        name = published_name(row)
        if name in methods and name not in taken.values():
            taken[row.key] = name
    return taken, [method for method in dict.fromkeys(methods) if method not in taken.values()]


def published_title(method: str) -> str:
    """What a reader calls a published row that has no counterpart here."""
    if method.startswith("es_"):
        return title("es", method.removeprefix("es_"))
    return NAMES.get(method) or title(method)


def shown(columns: Sequence[str], table: Mapping[str, Mapping[str, float]]) -> list[str]:
    """All published methods that any of the columns has, in the file's order."""
    return list(dict.fromkeys(method for name in columns for method in table.get(name, {})))
