"""From a source to a file under its final name: one process at a time, checked before it is placed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from esmerge.core.errors import InputError
from esmerge.storage.files import file_sha256
from esmerge.tasks.fetch.integrity import check_readable, git_blob
from esmerge.tasks.fetch.ledger import Ledger
from esmerge.tasks.fetch.partial import Partial
from esmerge.tasks.fetch.sources import RemoteFile

PRESENT, PLACED = "kept", "fetched"


def place_file(file: RemoteFile, root: Path, bring: Callable[[Path], Path]) -> str:
    """Put a file under ``root``, with the right checksum; a file that is there already is checked and not fetched.

    Args:
        bring: final path -> path of the complete file, which it writes beside that under another name.

    Returns:
        ``kept`` if it was there, else ``fetched``.

    Raises:
        InputError: it cannot be fetched, is cut short, or differs from the published or recorded checksum.
    """
    target, ledger = root / file.to, Ledger(root)
    target.parent.mkdir(parents=True, exist_ok=True)
    with alone(target):
        if target.exists():
            digest = check(file, target, ledger)
            ledger.add(file.to, file.url, digest, target.stat().st_size)
            return PRESENT
        arrived = bring(target)
        try:
            check_readable(arrived, file.to)
            digest = check(file, arrived, ledger)
        except InputError as error:
            rejected = target.with_name(f"{target.name}.rejected")
            os.replace(arrived, rejected)  # or the next attempt would start from it
            Partial(target).discard()
            raise InputError(f"{error}. What came is kept as {rejected}, for a look") from error
        ledger.add(file.to, file.url, digest, arrived.stat().st_size)  # first, so that no table is unrecorded
        os.replace(arrived, target)
        Partial(target).discard()
        return PLACED


def check(file: RemoteFile, path: Path, ledger: Ledger) -> str:
    """The SHA-256 of the file at ``path``, which must agree with the published and the recorded checksum of ``file``.

    Raises:
        InputError: it does not.
    """
    digest = file_sha256(path)
    if file.sha256 is not None and digest != file.sha256:
        raise InputError(_unknown(file, path, "SHA-256", digest, file.sha256))
    if file.git_blob is not None and (blob := git_blob(path)) != file.git_blob:
        raise InputError(_unknown(file, path, "git blob id", blob, file.git_blob))
    record = ledger.records().get(file.to)
    if record is not None and digest != record.sha256:
        raise InputError(
            f"{path} has SHA-256 {digest}, but {record.sha256} was recorded on {record.date}: the file here or its "
            f"source was changed. Keep the recorded version, or, to accept the new one, delete the entry "
            f"{file.to!r} from {ledger.path} and fetch again"
        )
    return digest


@contextmanager
def alone(target: Path) -> Iterator[None]:
    """Hold the lock of a file; waits, with a message, while another process holds it."""
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"waiting for another process that fetches {target}", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _unknown(file: RemoteFile, path: Path, kind: str, actual: str, expected: str) -> str:
    return (
        f"{path} has {kind} {actual}, but {expected} is known of {file.url}: it is not the published table. Do not use "
        "it; delete it and fetch again, and if that gives the same, upstream has changed"
    )
