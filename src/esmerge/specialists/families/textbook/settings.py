"""What a config may say about the embedded specialists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from esmerge.core.errors import ConfigError
from esmerge.specialists.api import SpecialistsConfig
from esmerge.specialists.families.textbook.perception import SceneAlignmentSettings, SceneLoraSettings
from esmerge.specialists.families.textbook.reading import ReadingSettings
from esmerge.specialists.soft_tokens.api import EncoderChoice, choose_encoder
from esmerge.specialists.soft_tokens.settings import EncoderSettings
from esmerge.specialists.specialists import FineTuning
from esmerge.world.entities import MODALITIES
from esmerge.world.world import WorldSettings

ENCODED = ("molecule", "protein")  # made of two parts each; a cell is read as text
INTERFERENCE: Mapping[str, Mapping[str, float]] = {"mild": {}, "strong": {"rate_factor": 2.0, "replay": 0.0}}


@dataclass(frozen=True)
class TextbookSettings(SpecialistsConfig):
    """Settings of the embedded specialists.

    Attributes:
        experts: which specialists there are, each named by its modality.
        encoders: modality -> its encoder: a registered name, or ``name`` and settings.
        shared_init: whether the adapters start from the same random A; independent ones mix more in factor space.
        interference: ``mild``, or ``strong``: twice the LoRA rate and no text-only replay, so that adapters disturb
            each other.
    """

    stages: ClassVar[tuple[str, ...]] = (
        *("textbook-backbone", "textbook-encoder", "textbook-alignment", "textbook-specialist"),
    )
    experts: list[str] = field(default_factory=lambda: list(MODALITIES))
    language: str = "textbook"
    encoders: dict[str, Any] = field(
        default_factory=lambda: {"molecule": "small_fingerprint", "protein": "motif_convolution"}
    )
    shared_init: bool = True
    interference: str = "mild"
    retrain: bool = False
    world: WorldSettings = field(default_factory=WorldSettings)
    reading: ReadingSettings = field(default_factory=ReadingSettings)
    encoder: EncoderSettings = field(
        default_factory=lambda: EncoderSettings(steps=300, batch=128, rate=3e-3, weight_decay=0.01, width=64)
    )
    alignment: SceneAlignmentSettings = field(default_factory=SceneAlignmentSettings)
    lora: SceneLoraSettings = field(default_factory=SceneLoraSettings)
    finetuning: FineTuning = field(default_factory=FineTuning)

    def __post_init__(self) -> None:
        if self.interference not in INTERFERENCE:
            raise ConfigError(f"specialists.interference={self.interference!r}: expected {' or '.join(INTERFERENCE)}")
        unknown = [name for name in self.experts if name not in MODALITIES]
        if unknown or len(self.experts) < 2 or len(set(self.experts)) < len(self.experts):
            raise ConfigError(
                f"specialists.experts={self.experts}: expected two or more of {', '.join(MODALITIES)}, each once"
            )
        if self.language != "textbook":
            raise ConfigError(f"specialists.language={self.language!r}: these specialists understand textbook only")
        for modality in self.encoders:
            if modality not in ENCODED:
                raise ConfigError(f"specialists.encoders.{modality}: expected an encoder of {' or '.join(ENCODED)}")
        self.encoder_choices()

    def encoder_choices(self) -> dict[str, EncoderChoice]:
        """Modality -> its encoder; raises ``ConfigError`` if there is none of that name."""
        return {name: choose_encoder(node, f"specialists.encoders.{name}") for name, node in self.encoders.items()}

    def embedded_world(self) -> WorldSettings:
        """The world that the specialists have read of."""
        return self.world

    def specialist(self) -> SceneLoraSettings:
        """LoRA training under the chosen interference."""
        changes = INTERFERENCE[self.interference]
        rate = self.lora.rate * changes.get("rate_factor", 1.0)
        return replace(self.lora, rate=rate, replay=changes.get("replay", self.lora.replay))
