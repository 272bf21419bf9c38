"""Is a file the right one, and is it whole?"""

from __future__ import annotations

import gzip
import hashlib
import zipfile
import zlib
from pathlib import Path

from esmerge.core.errors import InputError

BLOCK = 1 << 20
ARCHIVES = {".zip", ".whl", ".xlsx"}


def git_blob(path: Path) -> str:
    """The name that git gives a file's content: SHA-1 of its length and bytes, in hexadecimal.

    A repository at a fixed commit states it for each of its files, whether or not it states a SHA-256.
    """
    total = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            total.update(block)
    return total.hexdigest()


def check_readable(path: Path, name: str) -> None:
    """Raise ``InputError`` if the file is empty, or an archive by its ``name`` that is broken or cut short."""
    if path.stat().st_size == 0:
        raise InputError(f"{name} is empty")
    suffix = Path(name).suffix.lower()
    try:
        if suffix == ".gz":
            with gzip.open(path) as file:
                while file.read(BLOCK):
                    pass
        if suffix in ARCHIVES:
            with zipfile.ZipFile(path) as archive:
                broken = archive.testzip()
            if broken is not None:
                raise zipfile.BadZipFile(f"bad checksum of {broken}")
    except (EOFError, OSError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(f"{name} is no whole {suffix[1:]} file ({error}): fetch it again") from error
