"""Soft tokens are made once: encoders and projectors are not merged, so every merge is evaluated with the same ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor

from esmerge.model.encoder import ModalityEncoder

CAPACITY = 256 * 2**20  # bytes of soft tokens for each modality


class CachedEncoder:
    """An encoder that keeps what it made of whole lists of entities; the least recently used go first.

    Lists rather than entities, since what an encoder makes of an entity may depend on its neighbours by a rounding
    error, and a result must not depend on what was encoded before.

    Args:
        encoder: makes the soft tokens.
        capacity: bytes of soft tokens that are kept; the latest list is kept whatever its size.
    """

    def __init__(self, encoder: ModalityEncoder, capacity: int = CAPACITY) -> None:
        self.encoder = encoder
        self.modality = encoder.modality
        self.capacity = capacity
        self._cache: OrderedDict[tuple[str, ...], list[Tensor]] = OrderedDict()

    def encode(self, values: Sequence[str]) -> list[Tensor]:
        """Soft tokens of each entity, (tokens, hidden) each; ``InputError`` as the encoder raises it."""
        key = tuple(values)
        if key not in self._cache:
            self._cache[key] = self.encoder.encode(values)
        self._cache.move_to_end(key)
        while self._bytes() > self.capacity and len(self._cache) > 1:
            self._cache.popitem(last=False)
        return list(self._cache[key])

    def _bytes(self) -> int:
        return sum(tokens.nbytes for encoded in self._cache.values() for tokens in encoded)
