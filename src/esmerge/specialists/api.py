"""Who is merged: the shared backbone, the specialists' adapters, and the encoders of their modalities.

A family of specialists is a function ``(settings, Context) -> Specialists`` registered under the name that its config
gives.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar

from esmerge.core.registry import Registry
from esmerge.specialists.soft_tokens.released import ReleasedEncoder
from esmerge.storage.cache import Cache


class SpecialistsConfig:
    """What the settings of every family offer; a family's settings derive from it.

    Attributes:
        experts: names of the specialists, in their order.
        language: which wording of the benchmarks they understand.
        stages: kinds under which what is trained stands in the cache, in their order.
    """

    experts: Collection[str]
    language: str
    stages: ClassVar[tuple[str, ...]] = ()

    def embedded_world(self) -> object | None:
        """Settings of the embedded world, if the specialists live in one."""
        return None

    def released_encoders(self) -> Mapping[str, ReleasedEncoder]:
        """Modality -> the encoder that others trained for it, if one perceives it; nothing of it is read yet."""
        return {}

    def check_probe(self, probe: str) -> None:
        """Raise ``ConfigError`` if the specialists have no entities for a probe that is made of their own."""


SPECIALISTS: Registry[None] = Registry(
    "specialist set", "esmerge.specialists.families", "esmerge.specialists", SpecialistsConfig
)


@dataclass(frozen=True)
class Context:
    """What every loader of specialists receives beside its own settings.

    Attributes:
        seed: fixes the world and all training.
        cache: where trained stages are kept.
        device: where models run.
    """

    seed: int
    cache: Cache
    device: str = "cpu"
