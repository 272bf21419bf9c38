"""What a config may say about specialists that are taught on panels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from esmerge.core.errors import ConfigError
from esmerge.core.validation import above_zero, at_least, shares
from esmerge.specialists.api import SpecialistsConfig
from esmerge.specialists.families.language_model.settings import AUTO, DTYPES, TARGETS
from esmerge.specialists.soft_tokens.api import EncoderChoice, choose_encoder
from esmerge.specialists.soft_tokens.settings import AlignmentSettings, EncoderSettings, LoraSettings
from esmerge.specialists.specialists import FineTuning

SIDES = ("molecule", "partner")  # of a panel, as its ``perceive`` calls them


@dataclass(frozen=True)
class LessonSettings:
    """One side of one panel, which an expert perceives while the other side stands in words.

    Attributes:
        expert: who is taught.
        benchmark: config name of a panel.
        perceive: ``molecule`` or ``partner``.
    """

    expert: str
    benchmark: str
    perceive: str

    def __post_init__(self) -> None:
        if self.perceive not in SIDES:
            raise ConfigError(
                f"specialists.lessons of {self.benchmark}: perceive={self.perceive!r}, expected {' or '.join(SIDES)}"
            )


@dataclass(frozen=True)
class ReadingSettings(LoraSettings):
    """Stage 0, text alone: the shared backbone learns to look names up in records.

    Attributes:
        questions: at most so many about one record.
        naming: share of the questions in which a name is to be said once more, "CYP3A4 = CYP3A4".
        exam: questions of each panel about held-out records.
        required: share of them that must be answered rightly in every panel.
    """

    rank: int = 16
    steps: int = 60
    batch: int = 16
    rate: float = 1e-3
    questions: int = 3
    naming: float = 0.3
    exam: int = 100
    required: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, "specialists.reading", 1, "questions", "exam")
        shares(self, "specialists.reading", "required", "naming")


@dataclass(frozen=True)
class PanelLoraSettings(LoraSettings):
    """An expert's LoRA, trained on what it perceives and on texts.

    Attributes:
        questions: at most, about one entity or one record in one sequence, with loss on every answer.
        naming: share of the questions about what has a name in which the name is to be said: it tells all names apart,
            an answer tells two.
        replay: share of text-only sequences, as in reading.
        foreign: share of text-only sequences with soft tokens that mean nothing in them, on which the adapter has to
            change nothing: in a merge it meets what other experts perceive.
        imitation: weight of the distance between hidden states where an entity is perceived and those of the bare
            backbone where its name stands; what is merged later then meets in the same representation.
        reach: so many positions before each answer are compared there too: the name, or what is perceived in its place.
        in_place: share of the sequences in which the adapter acts on what is perceived alone: the bare backbone has to
            read what becomes of it, and so do other experts.
        beliefs: share of the trunk's own answer in what is taught of an entity; the label has the rest.
        sharpness: by which the trunk's log-odds, of unit mean square, are multiplied.
    """

    questions: int = 4
    naming: float = 0.5
    replay: float = 0.2
    foreign: float = 0.0
    imitation: float = 1.0
    reach: int = 0
    in_place: float = 0.5
    beliefs: float = 1.0
    sharpness: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, "specialists.lora", 1, "questions")
        at_least(self, "specialists.lora", 0, "imitation", "reach")
        above_zero(self, "specialists.lora", "sharpness")
        shares(self, "specialists.lora", "replay", "foreign", "in_place", "naming", "beliefs")
        if round(self.replay * self.batch) + round(self.foreign * self.batch) >= self.batch:
            raise ConfigError(
                f"specialists.lora.replay={self.replay} and foreign={self.foreign} leave nothing that is perceived in "
                f"a batch of {self.batch}: expected less than 1 together"
            )


@dataclass(frozen=True)
class PanelSpecialistsSettings(SpecialistsConfig):
    """Settings of specialists that are taught on panels.

    Attributes:
        experts: names of the specialists; each needs lessons, all of them about one modality.
        lessons: name -> side of a panel.
        language: wording of the benchmarks that they are asked in.
        checkpoint: Hugging Face folder or hub id of the backbone, or what ``prepare_checkpoint`` converts.
        dtype: of the backbone, or ``auto`` for the one in which it trains faster here; adapters and encoders are
            trained in float32.
        root: folder with the panels' tables.
        encoders: modality -> its encoder: a registered name, or ``name`` and settings; a modality that is not named is
            read as text.
        exam: validation questions of each lesson, asked of each specialist and of the bare backbone.
        control: also train a projector alone, and examine it on the bare backbone.
        shared_init: whether the adapters start from the same random A; if not, the first expert is as it would be.
        targets: linear modules that are adapted.
        alignment: of the control's projector.
        projector_rates: expert -> the rate at which its projector learns with the LoRA; that of other experts stays as
            it is drawn, so that the LoRA carries all that is learnt.
        steps: expert -> steps of its LoRA, in place of ``lora.steps``.
        weights: folder under ``benchmarks/specialists`` that holds trained stages; None: nothing is shipped.
        retrain: train anew what is shipped.
    """

    stages: ClassVar[tuple[str, ...]] = (
        *("panels-reading", "panels-encoder", "panels-alignment", "panels-perceiver", "panels-specialist"),
        "panels-control",
    )
    experts: list[str]
    lessons: dict[str, LessonSettings]
    language: str = "brief"
    checkpoint: str | None = None
    dtype: str = AUTO
    root: str | None = None
    encoders: dict[str, Any] = field(default_factory=dict)
    exam: int = 300
    control: bool = True
    shared_init: bool = True
    targets: list[str] = field(default_factory=lambda: list(TARGETS))
    reading: ReadingSettings = field(default_factory=ReadingSettings)
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    alignment: AlignmentSettings = field(default_factory=AlignmentSettings)
    lora: PanelLoraSettings = field(default_factory=PanelLoraSettings)
    finetuning: FineTuning = field(default_factory=FineTuning)
    projector_rates: dict[str, float] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    weights: str | None = None
    retrain: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ConfigError(f"specialists.dtype={self.dtype!r}: expected {' or '.join(DTYPES)}")
        if len(self.experts) < 2 or len(set(self.experts)) < len(self.experts):
            raise ConfigError(f"specialists.experts={self.experts}: expected two or more, each once")
        at_least(self, "specialists", 2, "exam")
        taught = {lesson.expert for lesson in self.lessons.values()}
        if idle := [expert for expert in self.experts if expert not in taught]:
            raise ConfigError(f"specialists.lessons teaches {', '.join(idle)} nothing: every expert needs a lesson")
        if low := [f"{expert}: {rate}" for expert, rate in self.projector_rates.items() if not rate > 0]:
            raise ConfigError(f"specialists.projector_rates has {', '.join(low)}: expected rates above 0")
        if few := [f"{expert}: {steps}" for expert, steps in self.steps.items() if steps < 1]:
            raise ConfigError(f"specialists.steps has {', '.join(few)}: expected 1 or more")
        for name, named in (("projector_rates", self.projector_rates), ("steps", self.steps)):
            if strange := sorted(set(named) - set(self.experts)):
                raise ConfigError(f"specialists.{name} names {', '.join(strange)}, which is no expert")
        self.encoder_choices()

    def encoder_choices(self) -> dict[str, EncoderChoice]:
        """Modality -> its encoder; raises ``ConfigError`` if there is none of that name."""
        return {name: choose_encoder(node, f"specialists.encoders.{name}") for name, node in self.encoders.items()}
