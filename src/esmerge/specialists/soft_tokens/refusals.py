"""Which entities released encoders refuse: asked before questions are chosen, so that all methods answer the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from esmerge.core.prompts import Entity
from esmerge.specialists.soft_tokens.released import ReleasedEncoder
from esmerge.specialists.soft_tokens.stored import StoredEncoder
from esmerge.storage.cache import Cache


@dataclass(frozen=True)
class EncoderRefusals:
    """What the encoders of a set of specialists refuse; no weights are loaded, and each entity is looked at once.

    Attributes:
        released: modality -> its encoder.
        cache: where verdicts are kept.
        key: what tells these encoders, with their settings, from others.
    """

    released: Mapping[str, ReleasedEncoder]
    cache: Cache
    key: str

    def reasons(self, entities: Iterable[Entity]) -> dict[Entity, str]:
        """Entity -> why its encoder refuses it, of those that are refused."""
        values: dict[str, list[str]] = {}
        for entity in entities:
            values.setdefault(entity.modality, []).append(entity.value)
        reasons: dict[Entity, str] = {}
        for modality, encoder in self.released.items():
            stored = StoredEncoder(modality, encoder, self.cache, "cpu")
            refused = stored.refusals(values.get(modality, []))
            reasons.update({Entity(modality, value): reason for value, reason in refused.items()})
        return reasons
