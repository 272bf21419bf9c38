"""Specialists on a real language model: checkpoint, encoders and adapters, each made on first use and kept."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from esmerge.adapters.lora import LoraState
from esmerge.adapters.peft_folder import load_adapter, save_adapter
from esmerge.core.errors import ConfigError, InputError
from esmerge.model.backbone import Backbone
from esmerge.model.prompt_encoder import Renderer
from esmerge.specialists.api import SPECIALISTS, Context
from esmerge.specialists.families.language_model import encoders, lessons, teaching
from esmerge.specialists.families.language_model.encoders import FEATURES, SoftTokenEncoder
from esmerge.specialists.families.language_model.lessons import Lesson
from esmerge.specialists.families.language_model.settings import LanguageModelSettings
from esmerge.specialists.families.language_model.smollm2 import prepare_checkpoint
from esmerge.specialists.specialists import PromptStyle, Specialists
from esmerge.storage.cache import code_digest, digest, tensors_digest

FACTS = "facts.json"
LEARNT_FROM = (  # modules whose code decides what is trained
    "esmerge.model.attach", "esmerge.model.loss", "esmerge.model.prompt_encoder", "esmerge.core.rng",
    "esmerge.model.training", "esmerge.specialists.families.language_model.lessons",
    "esmerge.specialists.families.language_model.encoders", "esmerge.specialists.families.language_model.teaching",
)  # fmt: skip


class _Builder:
    """Makes each stage, or finds it in the cache."""

    def __init__(self, settings: LanguageModelSettings, context: Context) -> None:
        self.settings, self.context = settings, context
        self.lessons = read_lessons(settings, context.seed)
        self.backbone = load_backbone(settings, context)
        versions = (torch.__version__, transformers.__version__, peft.__version__)
        code = code_digest(sys.modules[name] for name in LEARNT_FROM)
        self.base = {"seed": context.seed, "versions": versions, "code": code, "backbone": self.backbone.fingerprint}

    def taught(self, **wanted: str) -> list[Lesson]:
        """Lessons of a ``modality`` or an ``expert``."""
        return [item for item in self.lessons if all(getattr(item, key) == value for key, value in wanted.items())]

    def encoder(self, modality: str) -> tuple[SoftTokenEncoder, Mapping[str, Any]]:
        """Trunk first, projector then; and how long they took."""
        settings, cache, seed = self.settings, self.context.cache, self.context.seed
        kind, taught = settings.encoders[modality], self.taught(modality=modality)
        parts = {"encoder": asdict(settings.encoder), "alignment": asdict(settings.alignment), "kind": kind}
        key = {**self.base, **parts, "lessons": digest([asdict(lesson) for lesson in taught])}
        scratch = cache.scratch("language-model-encoder", key)
        words: Any = self.backbone.model.get_input_embeddings()

        def blank() -> SoftTokenEncoder:
            return encoders.make_encoder(modality, kind, settings.encoder, words.weight.detach(), seed)

        def make(out: Path) -> None:
            encoder, clock = blank(), time.perf_counter()
            encoders.train_trunk(encoder, taught, settings.encoder, seed, scratch / "trunk")
            encoder.requires_grad_(False).to(self.context.device)
            facts = {"encoder_seconds": time.perf_counter() - clock}
            renderer = Renderer(self.backbone, {modality: encoder})
            facts["loss"] = teaching.align(renderer, encoder, taught, settings.alignment, seed, scratch / "projector")
            facts["alignment_seconds"] = time.perf_counter() - clock - facts["encoder_seconds"]
            encoders.save_encoder(encoder, out)
            _write_facts(out, facts)

        folder = cache.folder("language-model-encoder", key, make)
        return encoders.load_encoder(blank(), folder).to(self.context.device), _read_facts(folder)

    def specialist(
        self, index: int, expert: str, eyes: Mapping[str, SoftTokenEncoder]
    ) -> tuple[LoraState, Mapping[str, Any]]:
        """An adapter, and how its exam went."""
        settings, cache, seed = self.settings, self.context.cache, self.context.seed
        taught, own = self.taught(expert=expert), settings.modality_of(expert)
        renderer = Renderer(self.backbone, eyes)
        init = seed if settings.shared_init else seed + 1000 * (index + 1)
        key = {
            **self.base,
            "lora": asdict(settings.lora),
            "targets": settings.targets,
            "exam": settings.exam,
            "init": init,
            "lessons": digest([asdict(lesson) for lesson in taught]),
            "encoders": {name: _digest_of(encoder) for name, encoder in eyes.items() if name == own},
        }
        scratch = cache.scratch("language-model-specialist", key)

        def make(out: Path) -> None:
            clock = time.perf_counter()
            state, loss = teaching.specialise(
                renderer, expert, taught, settings.lora, settings.targets, (seed, init), scratch
            )
            facts = {"loss": loss, "training_seconds": time.perf_counter() - clock}
            questions = lessons.exam(taught, settings.exam, seed)
            facts["exam_questions"] = len(questions)
            for name, adapter in {"backbone": None, "specialist": state}.items():
                facts[f"{name}_accuracy"] = teaching.accuracy(renderer, questions, adapter)
            save_adapter(state, out / "adapter", self.backbone.name)
            _write_facts(out, facts)

        folder = cache.folder("language-model-specialist", key, make)
        return load_adapter(folder / "adapter", expert), _read_facts(folder)


@SPECIALISTS.register("language_model", LanguageModelSettings)
def language_model(settings: LanguageModelSettings, context: Context) -> Specialists:
    """Backbone, encoders and specialists; what the cache lacks is trained now.

    Raises:
        ConfigError: no checkpoint or no root.
        InputError: a lesson's table lacks a file, a column or rows.
    """
    builder = _Builder(settings, context)
    backbone = builder.backbone
    own = {expert: settings.modality_of(expert) for expert in settings.experts}
    perceived = {modality: builder.encoder(modality) for modality in settings.encoders if modality in own.values()}
    eyes = {modality: encoder for modality, (encoder, _) in perceived.items()}
    made = {expert: builder.specialist(i, expert, eyes) for i, expert in enumerate(settings.experts)}
    adapters = {expert: state for expert, (state, _) in made.items()}
    parts = [backbone.fingerprint, *map(_digest_of, eyes.values())]
    pool = lessons.pools(builder.lessons)
    return Specialists(
        name="language_model",
        backbone=backbone,
        adapters=adapters,
        expert_modality=own,
        encoders=eyes,
        language=settings.language,
        prompt_style=PromptStyle({modality: f"{modality.capitalize()}: " for modality in pool}, "\n"),
        pool=pool,
        fingerprint=digest([*parts, *(tensors_digest(state.tensors()) for state in adapters.values())]),
        finetuning=settings.finetuning,
        targets=tuple(settings.targets),
        metadata={f"lesson {lesson.name}": lesson.counts() for lesson in builder.lessons}
        | {f"encoder {modality}": facts for modality, (_, facts) in perceived.items()}
        | {f"specialist {expert}": facts for expert, (_, facts) in made.items()},
    )


def read_lessons(settings: LanguageModelSettings, seed: int) -> list[Lesson]:
    """The lessons of the chosen experts."""
    if settings.root is None:
        raise ConfigError(
            "specialists.root is not set: give the folder that holds "
            f"{', '.join(dict.fromkeys(lesson.table for lesson in settings.lessons.values()))}, e.g. "
            "specialists.root=../data"
        )
    root = Path(settings.root).expanduser()
    if not root.is_dir():
        raise InputError(f"specialists.root={settings.root} is not a folder")
    found = []
    for name, lesson in settings.lessons.items():
        if lesson.expert not in settings.experts:
            continue
        kind = settings.encoders.get(lesson.modality)
        check = FEATURES[kind].check if kind else lessons.as_text(lesson.modality, lesson.words)
        found.append(lessons.read_lesson(name, lesson, root, check, settings.held_out, seed))
    return found


def load_backbone(settings: LanguageModelSettings, context: Context) -> Backbone:
    """The checkpoint as a frozen model in the chosen dtype."""
    folder = context.cache.path("checkpoint", _source(settings.checkpoint))
    name = prepare_checkpoint(settings.checkpoint, folder)
    dtype = getattr(torch, settings.dtype)
    model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype)
    model.eval().requires_grad_(False).to(context.device)
    tokenizer = AutoTokenizer.from_pretrained(name)
    fingerprint = tensors_digest(dict(model.named_parameters()), sorted(tokenizer.get_vocab().items()))
    return Backbone(model, tokenizer, name, fingerprint)


def _source(checkpoint: str | None) -> dict[str, Any]:
    """What tells one source of a converted checkpoint from another."""
    path = None if checkpoint is None else Path(checkpoint).expanduser()
    facts = path.stat() if path is not None and path.exists() else None
    return {"source": checkpoint, "state": facts and (facts.st_size, facts.st_mtime_ns)}


def _digest_of(encoder: nn.Module) -> str:
    return tensors_digest(encoder.state_dict())


def _write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    (folder / FACTS).write_text(json.dumps(facts, indent=1))


def _read_facts(folder: Path) -> dict[str, Any]:
    return json.loads((folder / FACTS).read_text())  # type: ignore[no-any-return]
