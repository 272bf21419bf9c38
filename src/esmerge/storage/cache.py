"""A content-addressed store: work is done once for all that it depends on, and shared by runs and processes.

A stage's folder is named by the hash of its key. What exists is whole, and is checked against its checksums when a
process first asks for it; a damaged folder is made again. A file lock lets one process build while the others wait. A
key holds the settings, the content of the inputs, and ``code.closure_digest`` of what makes the result.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from esmerge.storage.checksums import broken_seal, seal
from esmerge.storage.whole_folder import whole_folder

_INTACT: dict[Path, int] = {}  # folder that this process has checked -> when that folder was put there, in ns


@dataclass(frozen=True)
class Cache:
    """Folders under ``root``, one per (kind, key).

    Attributes:
        root: where.
        renewed: kinds of stages that are made again although they are there, each key once; the old ones stay until the
            new ones are whole.
    """

    root: Path
    renewed: frozenset[str] = frozenset()
    _built: set[Path] = field(default_factory=set, init=False, repr=False, compare=False)

    def path(self, kind: str, key: Mapping[str, object]) -> Path:
        """Where the stage of this key is or will be."""
        return self.root / kind / digest(key)

    def folder(self, kind: str, key: Mapping[str, object], make: Callable[[Path], None]) -> Path:
        """The finished folder of a stage; ``make`` fills it if it is not there yet.

        ``make`` gets the folder to fill. Beside it lies ``<folder>.partial``, which outlives an interruption:
        checkpoints of long work belong there (see ``scratch``).
        """
        path = self.path(kind, key)
        if self._is_there(kind, path) and _damage(path) is None:
            self._remove_scratch(kind, key)  # which stays behind where a process was killed just after it had finished
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not self._is_there(kind, path) or _is_damaged(path):
                with whole_folder(path) as building:
                    make(building)
                    text = json.dumps(key, indent=1, sort_keys=True, default=str)
                    (building / "key.json").write_text(text, encoding="utf-8")
                    seal(building)
                self._built.add(path)
            self._remove_scratch(kind, key)
        return path

    def never_renewed(self) -> list[str]:
        """Kinds that were to be made again and that nothing asked for; sorted."""
        return sorted(self.renewed - {path.parent.name for path in self._built})

    def _is_there(self, kind: str, path: Path) -> bool:
        return path.exists() and (kind not in self.renewed or path in self._built)

    def scratch(self, kind: str, key: Mapping[str, object]) -> Path:
        """A folder for checkpoints of a stage that is not finished."""
        path = self.path(kind, key)
        return path.with_name(f"{path.name}.partial")

    def _remove_scratch(self, kind: str, key: Mapping[str, object]) -> None:
        shutil.rmtree(self.scratch(kind, key), ignore_errors=True)


def _is_damaged(path: Path) -> bool:
    """Whether a file of a finished folder is not what it was, which is then told."""
    if (reason := _damage(path)) is None:
        return False
    warnings.warn(f"{path} is damaged: {reason}; it is made again", stacklevel=3)
    return True


def _damage(path: Path) -> str | None:
    """What is damaged in a finished folder; looked at once per process, since hashing a large folder takes seconds."""
    stamp = path.stat().st_ctime_ns
    if _INTACT.get(path) == stamp:
        return None
    reason = broken_seal(path)
    if reason is None:
        _INTACT[path] = stamp
    return reason


def digest(key: object) -> str:
    """A short, stable hash of anything JSON can say."""
    return hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:16]
