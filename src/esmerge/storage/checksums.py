"""Checksums of a finished folder's files, so that a truncated or altered file is noticed before it is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from esmerge.core.errors import StoreError
from esmerge.storage.files import file_sha256, read_json, write_json

CHECKSUMS = "checksums.json"


def checksums(folder: Path, paths: Iterable[Path]) -> dict[str, str]:
    """Path relative to ``folder`` -> SHA-256 of the file, sorted; a folder stands for all files in it."""
    files = {file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()}
    return {str(file.relative_to(folder)): file_sha256(file) for file in sorted(files)}


def damage(folder: Path, expected: Mapping[str, str]) -> str | None:
    """Which file of a folder is not what it was, in words; None where every file is."""
    for name, checksum in expected.items():
        try:
            if file_sha256(folder / name) != checksum:
                return f"{name} was altered or cut short"
        except FileNotFoundError:
            return f"{name} is gone"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    return None


def seal(folder: Path) -> None:
    """Write the checksums of every file in a folder beside them, once it is complete."""
    write_json(folder / CHECKSUMS, checksums(folder, [folder]))


def broken_seal(folder: Path) -> str | None:
    """What is damaged in a folder that was sealed, in words; None for an intact one, and for one without a seal."""
    if not (folder / CHECKSUMS).exists():
        return None
    try:
        return damage(folder, read_json(folder / CHECKSUMS))
    except StoreError:
        return f"{CHECKSUMS} cannot be read"
