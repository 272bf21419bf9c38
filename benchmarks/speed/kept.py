"""Measurements of a run that has not ended, beside its CSV: one that is killed goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from esmerge.storage.files import PARTIAL, read_json, write_json

ROOT = Path(__file__).resolve().parents[2]
CODE = ("src/**/*.py", "benchmarks/speed/*.py", "conf/**/*.yaml")


class Kept:
    """Measurements by name, each taken once, whoever asks for it again.

    Attributes:
        taken_up: measurements that an earlier process took; the machine's pace may have been another then.
    """

    def __init__(self, out: Path | None, facts: Mapping[str, object]) -> None:
        """
        Args:
            out: the run's CSV file; None keeps nothing.
            facts: what is measured; other facts, or other code, do not see these measurements.
        """
        self._path = None if out is None else out.with_name(f".{out.name}.{_digest(facts)}{PARTIAL}")
        self._found: dict[str, Any] = read_json(self._path) if self._path and self._path.exists() else {}
        self.taken_up = len(self._found)

    def __call__(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The measurement of that name, a JSON object; taken now if there is none."""
        if name not in self._found:
            self._found[name] = measure()
            if self._path:
                write_json(self._path, self._found)
        return self._found[name]

    def done(self) -> None:
        """The run's row is written."""
        if self._path:
            self._path.unlink(missing_ok=True)


def _digest(facts: Mapping[str, object]) -> str:
    code = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for pattern in CODE:
        for path in sorted(ROOT.glob(pattern)):
            code.update(path.read_bytes())
    return code.hexdigest()[:12]
