from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from esmerge.core.errors import StoreError
from esmerge.storage.usable import check_folder


def test_a_folder_that_can_be_made_is_accepted_and_not_made(tmp_path: Path) -> None:
    check_folder(tmp_path / "a" / "b", "cache")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("inside", ["", "below", "far/below"])
def test_a_file_is_no_folder(inside: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=f"cache={tmp_path}/file.* cannot be written .*{tmp_path}/file is no folder"):
        check_folder(tmp_path / "file" / inside, "cache")


def test_a_read_only_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(path: str, mode: int = 0o777) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    monkeypatch.setattr(os, "mkdir", read_only)  # permissions do not bind every user
    with pytest.raises(StoreError, match=f"out={tmp_path}/x cannot be written .*{tmp_path}: Read-only file system"):
        check_folder(tmp_path / "x", "out")


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_locks(file: object, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", without_locks)
    with pytest.raises(StoreError, match=f"cache={tmp_path} lies on a file system without file locks .*give a folder"):
        check_folder(tmp_path, "cache")
    assert list(tmp_path.iterdir()) == []
