"""Trained stages that come with the program: found by what made them, and checked before they are used.

A folder of them holds ``card.json`` beside one folder per stage. A stage fits where every setting is the one that made
it; code and versions of libraries do not count, since its weights are what makes later numbers the same everywhere. It
also fits settings that the card lists under ``stands_for``, each with the reason: lessons of the same tables, say, of
which a later version of the program leaves a few answers out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from esmerge.core.errors import StoreError
from esmerge.storage.cache import digest
from esmerge.storage.files import file_sha256, read_json

CARD = "card.json"
REMEDY = "put the shipped file back (git checkout, or install again), or train with specialists.retrain=true"
MOST_NAMED = 3  # settings that a message names


@dataclass(frozen=True)
class Stage:
    """A finished stage.

    Attributes:
        kind: of work, e.g. ``textbook-specialist``.
        name: of what was trained, e.g. ``molecule``.
        settings: all that decides it, beside code and versions.
        folder: its files.
    """

    kind: str
    name: str
    settings: Mapping[str, object]
    folder: Path


@dataclass(frozen=True)
class ShippedStages:
    """The stages that a folder holds.

    Attributes:
        folder: with ``card.json``, which a writer of ``esmerge.experiment.weights`` left there.
    """

    folder: Path

    @cached_property
    def card(self) -> dict[str, object]:
        """The record of how the stages were made.

        Raises:
            StoreError: it is absent, or not what was written.
        """
        path = self.folder / CARD
        if not path.is_file():
            raise StoreError(f"{path} does not exist: {REMEDY}")
        card = read_json(path)
        if card.pop("checksum", None) != digest(card):
            raise StoreError(f"{path} is not as it was written, its checksum differs: {REMEDY}")
        return card

    def find(self, kind: str, name: str, settings: Mapping[str, object]) -> Path | None:
        """The folder of a stage that these settings made, or that stands for them; None if there is none.

        Raises:
            StoreError: a file of it is absent or changed.
        """
        entry = self._entry(kind, name)
        if entry is None or digest(settings) not in map(digest, _fitting(entry)):
            return None
        folder = self.folder / kind / name
        for file, checksum in entry["files"].items():
            if not (folder / file).is_file():
                raise StoreError(f"{folder / file} does not exist: {REMEDY}")
            if (present := file_sha256(folder / file)) != checksum:
                raise StoreError(f"{folder / file} has SHA-256 {present[:16]}…, expected {checksum[:16]}…: {REMEDY}")
        return folder

    def differences(self, kind: str, name: str, settings: Mapping[str, object]) -> str:
        """In which settings a stage differs from the one that is here, in words."""
        entry = self._entry(kind, name)
        if entry is None:
            return f"no {kind} {name} is shipped"
        shipped, current = dict(_flat(entry["settings"])), dict(_flat(settings))
        names = [key for key in sorted(shipped.keys() | current.keys()) if shipped.get(key) != current.get(key)]
        named = ", ".join(f"{key}={current.get(key)}, shipped {shipped.get(key)}" for key in names[:MOST_NAMED])
        return named + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")

    def _entry(self, kind: str, name: str) -> dict[str, Any] | None:
        stages = self.card["stages"]
        return stages.get(kind, {}).get(name) if isinstance(stages, dict) else None


def checked_in(stage: Stage, folder: Path) -> dict[str, object]:
    """What the card says of a stage whose files lie in ``folder``: its settings and the files' checksums."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        "settings": stage.settings,
        "files": {path.relative_to(folder).as_posix(): file_sha256(path) for path in files},
    }


def _fitting(entry: Mapping[str, Any]) -> list[dict[str, object]]:
    """The settings that a stage of the card fits."""
    return [entry["settings"], *({**entry["settings"], **other["settings"]} for other in entry.get("stands_for", ()))]


def _flat(settings: object, start: str = "") -> Iterator[tuple[str, str]]:
    """Dotted name -> value, as text, of every single setting."""
    if isinstance(settings, Mapping):
        for name, value in settings.items():
            yield from _flat(value, f"{start}.{name}" if start else str(name))
    else:
        yield start, str(list(settings) if isinstance(settings, tuple) else settings)
