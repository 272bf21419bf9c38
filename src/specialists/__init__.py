"""Who is merged: the shared backbone, the specialists' adapters, and the encoders of their modalities.

A specialist set is a function ``(settings, Context) -> Team`` registered under the name that its config gives.
"""

from __future__ import annotations

from dataclasses import dataclass

from src.cache import Cache
from src.registry import Registry

TEAMS = Registry("specialist set", "src.specialists")


@dataclass(frozen=True)
class Context:
    """What every loader of specialists is told, whatever its own settings.

    Attributes:
        seed: fixes the world and all training.
        cache: where trained stages are kept.
        device: where models run.
    """

    seed: int
    cache: Cache
    device: str = "cpu"
