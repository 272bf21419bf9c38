"""A file that is still arriving: ``NAME.part``, and in ``NAME.part.json`` what is needed to go on with it.

Other writers leave nothing that is not finished (``esmerge.storage.files``); here the unfinished is what is kept.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from esmerge.storage.files import write_json


@dataclass(frozen=True)
class Notes:
    """What the server said of the file when it was begun.

    Attributes:
        url: where it comes from.
        validator: a strong ETag, or the date of the last change; None where the rest cannot be asked for, since
            nothing would tell that it belongs to the same file.
        total: bytes of the whole file; None if the server did not say.
    """

    url: str
    validator: str | None
    total: int | None


class Partial:
    """The beginning of a file, beside the place where the whole of it is to stand."""

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(f"{target.name}.part")
        self.notes_path = target.with_name(f"{target.name}.part.json")

    def size(self) -> int:
        """Bytes that are here."""
        return self.path.stat().st_size if self.path.exists() else 0

    def notes(self, url: str) -> Notes | None:
        """What is known of the file that was begun from this address; None if the partial file is of no use."""
        try:
            notes = Notes(**json.loads(self.notes_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        useful = notes.url == url and notes.validator is not None and self.size() > 0
        return notes if useful and (notes.total is None or self.size() <= notes.total) else None

    def begin(self, notes: Notes) -> None:
        """Start with nothing; the notes are written first, so that no bytes are without them."""
        self.path.unlink(missing_ok=True)
        write_json(self.notes_path, asdict(notes))

    def discard(self) -> None:
        """Remove the partial file and its notes."""
        self.path.unlink(missing_ok=True)
        self.notes_path.unlink(missing_ok=True)
