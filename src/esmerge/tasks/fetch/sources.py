"""Where official tables lie: ``src/esmerge/tasks/data/upstream.yaml``, read and checked."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from omegaconf import OmegaConf

from esmerge.core.errors import ConfigError
from esmerge.core.text_files import read_text

UPSTREAM = Path(__file__).parents[1] / "data" / "upstream.yaml"


@dataclass(frozen=True)
class RemoteFile:
    """A file as upstream publishes it.

    Attributes:
        to: path under the root.
        url: its address; in a wheel, ``<requirement>!<path in the wheel>``.
        sha256, git_blob: published checksums, hexadecimal; None where there is none yet.
    """

    to: str
    url: str
    sha256: str | None = None
    git_blob: str | None = None


@dataclass(frozen=True)
class DerivedTable:
    """A table that is derived from fetched ones.

    Attributes:
        to: path under the root.
        parts: fetched files in their order -> the value of the column ``split`` for their rows, or None for no such
            column.
        columns: upstream's column -> the table's, in the table's order.
        distinct: keep one row for each value of the first column, and none where its labels contradict.
        sha256: what the result must have.
    """

    to: str
    parts: dict[str, str | None]
    columns: dict[str, str]
    sha256: str
    distinct: bool = False


@dataclass(frozen=True)
class UpstreamTable:
    """What ``fetch NAME`` brings.

    Attributes:
        name, collection: what a user types to fetch it.
        title, home, licence: what it is, its page, and the terms it comes under.
        columns: upstream's columns; empty where they are not known.
        use: overrides that read it in ``python -m src.sweep``; empty where no benchmark reads it yet.
        note: what must be done before it can be used, or what it lacks; empty where nothing is.
        package: importable package that holds the files, for a wheel; else empty.
    """

    name: str
    collection: str
    title: str
    home: str
    licence: str
    files: tuple[RemoteFile, ...]
    derived: DerivedTable | None = None
    columns: str = ""
    use: str = ""
    note: str = ""
    package: str = ""
    targets: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        derived = (self.derived.to,) if self.derived else ()
        targets = (*(file.to for file in self.files), *derived)
        for target in targets:
            path = PurePosixPath(target)
            if path.is_absolute() or ".." in path.parts:
                raise ConfigError(f"table {self.name}: {target} must be a path under the root")
        object.__setattr__(self, "targets", targets)


def upstream(path: Path = UPSTREAM) -> dict[str, UpstreamTable]:
    """All tables by name, in the file's order; raises ``ConfigError`` for an entry that does not fit."""
    tables: dict[str, UpstreamTable] = {}
    content: Any = OmegaConf.to_container(OmegaConf.load(io.StringIO(read_text(path))))
    for collection, node in content.items():
        shared = {key: node[key] for key in ("home", "licence")}
        for name, entry in node["tables"].items():
            try:
                tables[name] = _table(name, collection, node, {**shared, **entry})
            except (TypeError, KeyError) as error:
                raise ConfigError(f"{path}: table {name} does not fit: {error}") from error
    return tables


def select_tables(names: Sequence[str], tables: dict[str, UpstreamTable]) -> list[UpstreamTable]:
    """The named tables, and all of a collection that is named; raises ``ConfigError`` naming what there is."""
    collections = {table.collection for table in tables.values()}
    for name in names:
        if name not in tables and name not in collections:
            available = f"{', '.join(tables)}; or all of {', '.join(sorted(collections))}"
            raise ConfigError(f"unknown table {name!r}: expected one of {available}")
    return [table for table in tables.values() if table.name in names or table.collection in names]


def _table(name: str, collection: str, node: dict[str, Any], entry: dict[str, Any]) -> UpstreamTable:
    files = []
    for file in entry.pop("files"):
        path = file.pop("path", "")
        url = file.pop("url", None) or node["url"].format(path=path)
        files.append(RemoteFile(url=url, **file))
    derived = entry.pop("derived", None)
    defaults = {"columns": node.get("columns", ""), "package": node.get("package", ""), **entry}
    return UpstreamTable(
        name, collection, files=tuple(files), derived=DerivedTable(**derived) if derived else None, **defaults
    )
