"""What a part of the check tells while it runs: JSON lines, flushed one by one, so that a part that is stopped at its
limit has told what it measured until then."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Record = dict[str, Any]
"""``kind`` is ``row``, ``check``, ``goal`` or ``note``; the rest is what that method is given."""


class Report:
    """Appends records to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.failed = False

    def row(self, table: str, **values: object) -> None:
        """A row of a table; rows of one table may have different columns."""
        self._write("row", table=table, values=values)

    def check(self, name: str, passed: bool, measured: object, expected: object) -> None:
        """Something that must hold: where it does not, the part has failed."""
        self.failed |= not passed
        self._write("check", name=name, passed=bool(passed), measured=_short(measured), expected=_short(expected))

    def goal(self, name: str, measured: object, aim: object, met: bool) -> None:
        """Something that is aimed at: it is shown as met or missed, and fails nothing."""
        self._write("goal", name=name, measured=_short(measured), aim=_short(aim), met=bool(met))

    def note(self, text: str) -> None:
        """A sentence."""
        self._write("note", text=text)

    @contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """A block whose error is a check that failed, so that what comes after it is measured all the same."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.check(name, False, describe(error), "no error")

    def _write(self, kind: str, **values: object) -> None:
        record = {"kind": kind, **values}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, default=str) + "\n")
        print(json.dumps(record, default=str), file=sys.stderr, flush=True)


def read_records(path: Path) -> list[Record]:
    """All whole records of a file; a line that was cut off is left out."""
    records: list[Record] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def describe(error: BaseException) -> str:
    """Type and first lines of an error."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _short(value: object) -> object:
    return float(f"{value:.4g}") if isinstance(value, float) else value
