"""What a run was made of before it made anything itself: specialists, and what a probe measured on them.

It is noted in the run's folder by content, so that W&B can show where a result comes from, now or later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from esmerge.core.errors import StoreError
from esmerge.storage.files import file_sha256, read_json, write_json

FILE = "lineage.json"


@dataclass(frozen=True)
class FileRecord:
    """A file by its content.

    Attributes:
        bytes: its size.
        sha256: in hexadecimal.
    """

    bytes: int
    sha256: str


@dataclass(frozen=True)
class SpecialistSource:
    """A specialist's adapter.

    Attributes:
        name: of the expert.
        modality: what it perceives.
        family: config name of the set.
        digest: of the adapter's tensors and scales.
        backbone: digest of the backbone's weights.
        folder: its PEFT folder on this machine, where there is one.
        files: name -> content, of its weights in that folder.
    """

    name: str
    modality: str
    family: str
    digest: str
    backbone: str
    folder: str | None = None
    files: Mapping[str, FileRecord] = field(default_factory=dict)


@dataclass(frozen=True)
class SignalsSource:
    """What a probe measured on all specialists.

    Attributes:
        probe: its config name.
        digest: of the files.
        folder: where they lie on this machine.
        files: name -> content.
        prompts: how many there were.
        seconds: of measuring; None where that is not noted.
    """

    probe: str
    digest: str
    folder: str
    files: Mapping[str, FileRecord]
    prompts: int
    seconds: float | None = None


@dataclass(frozen=True)
class Lineage:
    """The specialists that a run used and, of a merge that reads a probe, the probe's signals."""

    specialists: Sequence[SpecialistSource] = field(default_factory=tuple)
    signals: SignalsSource | None = None


def write_lineage(run: Path, lineage: Lineage) -> Path:
    """Note it in a run's folder."""
    return write_json(run / FILE, asdict(lineage))


def read_lineage(run: Path) -> Lineage:
    """What was noted; empty for a run that used no specialists, and for one that noted nothing.

    Raises:
        StoreError: the note is damaged.
    """
    path = run / FILE
    if not path.exists():
        return Lineage()
    record = read_json(path)
    try:
        signals = record["signals"]
        specialists = tuple(SpecialistSource(**_with_files(entry)) for entry in record["specialists"])
        return Lineage(specialists, None if signals is None else SignalsSource(**_with_files(signals)))
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} does not say what the run was made of ({error!r}): run the sweep again") from error


def record_files(
    folder: Path, names: Sequence[str], checksums: Mapping[str, str] | None = None
) -> dict[str, FileRecord]:
    """Files of a folder by name; those of ``checksums`` (name -> SHA-256) are not read again."""
    stored = checksums or {}
    return {
        name: FileRecord((folder / name).stat().st_size, stored.get(name) or file_sha256(folder / name))
        for name in names
    }


def _with_files(record: Mapping[str, Any]) -> dict[str, Any]:
    return {**record, "files": {name: FileRecord(**entry) for name, entry in record["files"].items()}}
