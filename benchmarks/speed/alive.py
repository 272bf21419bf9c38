"""Bytes of tensors alive at once while a block runs: counted, not sampled, so the same block gives the same number.

Every storage that an operation reads or makes counts from then until it is freed. What was there before does not.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Alive(TorchDispatchMode):
    """Counts within ``with Alive(before) as alive``.

    Args:
        before: tensors whose storages do not count: weights that were loaded already.

    Attributes:
        bytes: alive now.
        peak: largest number of bytes alive at once so far.
    """

    def __init__(self, before: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.bytes, self.peak = 0, 0
        self._counted: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self._before = {tensor.untyped_storage().data_ptr() for tensor in before}

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs or {}, result)):
            if isinstance(leaf, Tensor) and leaf.device.type != "meta":
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._counted or storage.data_ptr() in self._before:
            return
        self._counted[key] = weakref.ref(storage, lambda _: self._freed(key, size))
        self.bytes += size
        self.peak = max(self.peak, self.bytes)

    def _freed(self, key: int, size: int) -> None:
        del self._counted[key]
        self.bytes -= size
