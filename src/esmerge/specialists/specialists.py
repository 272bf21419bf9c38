"""A set of specialists on one backbone, ready to be probed, merged and asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from esmerge.adapters.lora import LoraState
from esmerge.core.prompts import Benchmark
from esmerge.core.validation import above_zero, at_least
from esmerge.model.backbone import Backbone
from esmerge.model.cached_encoder import CachedEncoder
from esmerge.model.chat import Chat
from esmerge.model.encoder import ModalityEncoder
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.specialists.stage_store import StageStore


@dataclass(frozen=True)
class PromptStyle:
    """How a probe prompt names an entity.

    Attributes:
        labels: modality -> the text before its entity.
        separator: the text after each entity.
    """

    labels: Mapping[str, str]
    separator: str


@dataclass(frozen=True)
class Exam:
    """How well a set of specialists learnt what it was taught.

    Attributes:
        figures: name -> share of right answers, or a difference of two.
        required: name -> the least that a figure must be.
    """

    figures: Mapping[str, float]
    required: Mapping[str, float]

    def failures(self) -> list[str]:
        """The figures that are too low, in words."""
        low = [name for name, least in self.required.items() if not self.figures[name] >= least]
        return [f"{name} is {self.figures[name]:.3f}, expected at least {self.required[name]}" for name in low]


@dataclass(frozen=True)
class FineTuning:
    """How the fine-tuned reference is trained on a benchmark's small training split."""

    steps: int = 60
    batch: int = 16
    rate: float = 1e-3
    weight_decay: float = 0.05
    rank: int = 8
    alpha: float = 32.0

    def __post_init__(self) -> None:
        at_least(self, "specialists.finetuning", 1, "steps", "batch", "rank")
        at_least(self, "specialists.finetuning", 0, "weight_decay")
        above_zero(self, "specialists.finetuning", "rate", "alpha")


@dataclass(frozen=True)
class Specialists:
    """N specialists, their backbone and their encoders.

    Attributes:
        name: config name of the set.
        backbone: the shared model.
        adapters: expert -> its LoRA.
        expert_modality: expert -> the modality it perceives.
        encoders: modality -> encoder and projector; a modality without one is read as text.
        language: which wording of the benchmarks it understands.
        prompt_style: how probe prompts are put.
        pool: modality -> raw entities that probes may be made of; never test entities.
        taught: modality -> entities that they were taught; empty where nobody says what they were trained on.
        fingerprint: content hash of the weights and encoders; part of every key of work done with them.
        finetuning: how a reference is trained on this backbone.
        world: settings of the embedded world, if the specialists live in one.
        targets: linear modules that a new LoRA adapts.
        stages: where what was trained came from, and where more is kept; None if nothing was trained here.
        exam: what measures how well all was learnt; None where there is nothing to measure it by.
        metadata: anything worth recording, e.g. training losses and encoder accuracies.
        chat: the texts around a question; None where a question stands alone.
    """

    name: str
    backbone: Backbone
    adapters: Mapping[str, LoraState]
    expert_modality: Mapping[str, str]
    encoders: Mapping[str, ModalityEncoder]
    language: str
    prompt_style: PromptStyle
    pool: Mapping[str, Sequence[str]]
    fingerprint: str
    taught: Mapping[str, Sequence[str]] = field(default_factory=dict)
    finetuning: FineTuning = field(default_factory=FineTuning)
    world: object | None = None
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    stages: StageStore | None = None
    exam: Callable[[Specialists], Exam] | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    chat: Chat | None = None

    def worded(self, benchmark: Benchmark) -> Benchmark:
        """A benchmark as these specialists are asked: in a chat, if they are used to that."""
        return benchmark if self.chat is None else self.chat.benchmark(benchmark)

    @cached_property
    def prompt_encoder(self) -> PromptEncoder:
        """Turns segments into this backbone's input."""
        return PromptEncoder(self.backbone, self.encoders)

    @cached_property
    def caching_prompt_encoder(self) -> PromptEncoder:
        """The same, but the questions of a benchmark are encoded once, not once for every merge that is asked."""
        return PromptEncoder(self.backbone, {name: CachedEncoder(encoder) for name, encoder in self.encoders.items()})

    @property
    def modalities(self) -> tuple[str, ...]:
        """Every expert's own modality once, in the experts' order."""
        return tuple(dict.fromkeys(self.expert_modality.values()))
