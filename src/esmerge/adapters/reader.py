"""Tensors of safetensors files: one open handle a file while they are read, and one part of it in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

AT_ONCE = 2**20  # 1 MiB, less than most modules: opening a file again takes a millisecond


class TensorReader:
    """A file whose tensors are read one by one, each time they are asked for.

    Args:
        path: of the file; it must stay in place.
        at_once: bytes that are read through one handle before a new one takes its place. What was read stays mapped,
            and counts as the process's memory, until its handle is closed.
    """

    def __init__(self, path: Path, at_once: int = AT_ONCE) -> None:
        self.path, self._at_once = path, at_once
        self._open: ExitStack | None = None  # there while the file is kept open
        self._handle: Any = None
        self._mapped = 0

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """While it lasts, reads share a handle, which is closed at the end; blocks may stand in one another."""
        if self._open is not None:
            yield
            return
        with ExitStack() as self._open:
            try:
                yield
            finally:
                self._open, self._handle = None, None

    def read(self, *names: str) -> list[Tensor]:
        """The named tensors.

        Raises:
            SafetensorError: the file holds no such tensor, or is no longer whole.
            OSError: it is no longer there.
        """
        if self._open is None:
            with safe_open(self.path, framework="pt") as file:
                return [file.get_tensor(name) for name in names]
        tensors = [self._shared(self._open).get_tensor(name) for name in names]
        self._mapped += sum(tensor.nbytes for tensor in tensors)
        return tensors

    def _shared(self, stack: ExitStack) -> Any:
        """The handle at hand, or a new one after ``at_once`` bytes: the old one's pages are given back."""
        if self._handle is None or self._mapped >= self._at_once:
            self._handle, self._mapped = None, 0
            stack.close()
            self._handle = stack.enter_context(safe_open(self.path, framework="pt"))
        return self._handle


class TensorFiles:
    """Tensors that stand in one file or several, under names of their own.

    Args:
        tensors: name -> the file, and the tensor's name in it.
    """

    def __init__(self, tensors: Mapping[str, tuple[Path, str]]) -> None:
        self._tensors = tensors
        self._readers = {path: TensorReader(path) for path in dict.fromkeys(path for path, _ in tensors.values())}

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """While it lasts, reads share a handle for each file, which is closed at the end."""
        with ExitStack() as readers:
            for reader in self._readers.values():
                readers.enter_context(reader.kept_open())
            yield

    def read(self, *names: str) -> list[Tensor]:
        """The named tensors; for errors see ``TensorReader.read``. Those of one file are read through one handle."""
        located = [self._tensors[name] for name in names]
        if len({path for path, _ in located}) == 1:
            return self._readers[located[0][0]].read(*(key for _, key in located))
        return [tensor for path, key in located for tensor in self._readers[path].read(key)]
