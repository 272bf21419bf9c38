"""Soft tokens are made once: encoders and projectors are not merged, so every merge is asked with the same ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor

from esmerge.model.encoder import ModalityEncoder

ROOM = 256 * 2**20  # bytes of soft tokens kept for each modality


class Remembering:
    """An encoder that keeps what it made of whole lists of entities; those not asked for longest go first.

    Lists rather than entities, since what an encoder makes of an entity may depend on its neighbours by a rounding
    error, and a result must not depend on what was asked before.
    """

    def __init__(self, encoder: ModalityEncoder, room: int = ROOM) -> None:
        self.encoder = encoder
        self.modality = encoder.modality
        self.room = room
        self._kept: OrderedDict[tuple[str, ...], list[Tensor]] = OrderedDict()

    def encode(self, values: Sequence[str]) -> list[Tensor]:
        """Soft tokens of each entity, (tokens, hidden) each; ``InputError`` as the encoder raises it."""
        asked = tuple(values)
        if asked not in self._kept:
            self._kept[asked] = self.encoder.encode(values)
        self._kept.move_to_end(asked)
        while self._bytes() > self.room and len(self._kept) > 1:
            self._kept.popitem(last=False)
        return list(self._kept[asked])

    def _bytes(self) -> int:
        return sum(tokens.nbytes for made in self._kept.values() for tokens in made)
