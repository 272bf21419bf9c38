"""Answers of long work, appended as they come: a process that was killed goes on after the last whole line."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

Answers = TypeVar("Answers")


class Journal:
    """A file of answers, one batch a line, each line with a checksum.

    A line that a kill cut short, and whatever follows a damaged one, is dropped when the file is opened.

    Args:
        path: of the file, written by one process at a time; None keeps nothing.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._answers = {} if path is None or not path.exists() else _whole_lines(path)

    def __len__(self) -> int:
        """Number of batches that are answered already."""
        return len(self._answers)

    def answers(self, rows: Sequence[int], answer: Callable[[], Answers]) -> Answers:
        """The answers to a batch: those of the file, or those of ``answer()``, which are then appended.

        Args:
            rows: indices that tell this batch from the others.
            answer: returns what JSON can say; tuples come back as lists.

        Raises:
            OSError: the answers cannot be written.
        """
        stored = self.stored(rows)
        if stored is not None:
            return cast(Answers, stored)
        answers = answer()
        self.append(rows, answers)
        return answers

    def stored(self, rows: Sequence[int]) -> Any | None:
        """The answers to a batch that the file holds, as JSON gives them back; None if it holds none."""
        return self._answers.get(tuple(rows))

    def append(self, rows: Sequence[int], answers: object) -> None:
        """Write the answers to a batch, which JSON can say.

        Raises:
            OSError: they cannot be written.
        """
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(_line(rows, answers))


def _line(rows: Sequence[int], answers: object) -> bytes:
    text = json.dumps([rows, answers], separators=(",", ":")).encode()
    return b"%08x %b\n" % (zlib.crc32(text), text)


def _whole_lines(path: Path) -> dict[tuple[int, ...], object]:
    """Rows -> answers of the whole lines that a file begins with; the rest is cut off."""
    answers, size = {}, 0
    content = path.read_bytes()
    for line in content.splitlines(keepends=True):
        checksum, _, text = line.partition(b" ")
        if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text.rstrip(b"\n")):
            break
        rows, batch_answers = json.loads(text)
        answers[tuple(rows)] = batch_answers
        size += len(line)
    if size < len(content):
        with path.open("r+b") as file:
            file.truncate(size)
    return answers
