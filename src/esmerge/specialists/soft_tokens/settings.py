"""What a config may say about the three stages: the trunk alone, the projector alone, the LoRA."""

from __future__ import annotations

from dataclasses import dataclass

from esmerge.core.validation import above_zero, at_least


@dataclass(frozen=True)
class EncoderSettings:
    """Training of an encoder's trunk without the backbone.

    Attributes:
        steps: updates; ``batch`` entities each, or of each of several tasks.
        width: units of the trunk, which are the frozen features.
        tokens: soft tokens per entity.
    """

    steps: int = 150
    batch: int = 64
    rate: float = 1e-3
    weight_decay: float = 0.1
    width: int = 128
    tokens: int = 8

    def __post_init__(self) -> None:
        at_least(self, "specialists.encoder", 1, "steps", "batch", "width", "tokens")
        at_least(self, "specialists.encoder", 0, "weight_decay")
        above_zero(self, "specialists.encoder", "rate")


@dataclass(frozen=True)
class AlignmentSettings:
    """Stage 1: only the projector learns; ``batch`` questions in each of ``steps`` updates."""

    steps: int = 60
    batch: int = 8
    rate: float = 5e-3

    def __post_init__(self) -> None:
        at_least(self, "specialists.alignment", 1, "steps", "batch")
        above_zero(self, "specialists.alignment", "rate")


@dataclass(frozen=True)
class LoraSettings:
    """Stage 2: a LoRA learns, the projector is frozen; ``batch`` questions or scenes in each of ``steps`` updates."""

    rank: int = 8
    alpha: float = 32.0
    steps: int = 60
    batch: int = 8
    rate: float = 5e-4
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        at_least(self, "specialists.lora", 1, "rank", "steps", "batch")
        at_least(self, "specialists.lora", 0, "weight_decay")
        above_zero(self, "specialists.lora", "rate", "alpha")
