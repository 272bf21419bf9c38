"""JSON as users bring it: objects, one in a file or one a line, each error with the file and the line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from esmerge.core.errors import InputError
from esmerge.core.text_files import read_text

Record = dict[str, Any]  # values of JSON


def read_json_object(path: Path) -> Record:
    """The one object of a JSON file.

    Raises:
        InputError: it cannot be read, or is not one JSON object.
    """
    return _object(read_text(path), str(path), "valid JSON")


def read_json_lines(path: Path, limit: int | None = None) -> list[tuple[int, Record]]:
    """Line number (from 1) and object of every line that is not blank, at most ``limit`` of them.

    Raises:
        InputError: a line is not a JSON object, or gives a name twice; the message names file and line.
    """
    lines = enumerate(read_text(path).split("\n"), start=1)  # never splitlines, which breaks texts at U+2028 too
    filled = [(number, line) for number, line in lines if line.strip()][:limit]
    return [(number, _object(line, f"{path}, line {number}", "JSON")) for number, line in filled]


def _object(text: str, where: str, kind: str) -> Record:
    try:
        record = json.loads(text, object_pairs_hook=_distinct)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{where} is not {kind}: {error}") from error
    except ValueError as error:
        raise InputError(f"{where} {error}") from error
    if not isinstance(record, dict):
        expected = "an object" if kind == "JSON" else "a JSON object"
        raise InputError(f"{where} is a {type(record).__name__}: expected {expected}, name: value")
    return record


def _distinct(pairs: Sequence[tuple[str, Any]]) -> Record:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"gives {twice!r} twice in one object: keep the right one")
    return record
