"""``tables.lock.json``: which bytes every table had when it was first fetched."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from esmerge.core.errors import InputError
from esmerge.core.json_lines import read_json_object
from esmerge.storage.files import write_json

NAME = "tables.lock.json"


@dataclass(frozen=True)
class Record:
    """One table: where it came from, its SHA-256, its size in bytes, and when it was recorded (UTC, ISO 8601)."""

    url: str
    sha256: str
    bytes: int
    date: str


class Ledger:
    """The lock file of a folder of tables; keys are paths under that folder, with forward slashes."""

    def __init__(self, root: Path) -> None:
        self.path = root / NAME

    def records(self) -> dict[str, Record]:
        """All records; none before the first fetch. Raises ``InputError`` for a file that is not a lock file."""
        if not self.path.exists():
            return {}
        try:
            content = read_json_object(self.path)
            return {key: Record(**record) for key, record in content.items()}
        except (InputError, ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self.path} is not a lock file of tables ({error}): restore it, or delete it and fetch again, which "
                "records the tables as they are then"
            ) from error

    def add(self, key: str, url: str, sha256: str, size: int) -> None:
        """Record a table unless it is recorded already; safe while other processes do the same."""
        with FileLock(self.path.with_name(f".{NAME}.lock")):
            records = self.records()
            if key in records:
                return
            records[key] = Record(url, sha256, size, datetime.now(UTC).isoformat(timespec="seconds"))
            write_json(self.path, {name: asdict(records[name]) for name in sorted(records)})
