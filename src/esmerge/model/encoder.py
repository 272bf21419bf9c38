"""What stands between an entity's raw form and the backbone's embedding space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class ModalityEncoder(Protocol):
    """Encoder and projector of one modality. Neither is merged: both are carried over as they are."""

    modality: str

    def encode(self, values: Sequence[str]) -> list[Tensor]:
        """Soft tokens of each entity, (tokens, hidden) each.

        Raises:
            InputError: a value is not a valid entity of this modality; the message names it.
        """
        ...
