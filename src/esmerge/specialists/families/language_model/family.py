"""Specialists on a real language model: checkpoint, encoders and adapters, each made on first use and kept."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import asdict
from functools import partial

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from esmerge.core.errors import ConfigError, InputError
from esmerge.core.paths import user_path
from esmerge.core.prompts import Example
from esmerge.model.attach import adapter_digest
from esmerge.model.backbone import Backbone
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.model.reach import check_reach, without_perceived
from esmerge.specialists.api import SPECIALISTS, Context
from esmerge.specialists.families.language_model.lessons import Lesson, as_text, pools, read_lesson
from esmerge.specialists.families.language_model.settings import LanguageModelSettings
from esmerge.specialists.families.language_model.smollm2 import prepare_checkpoint
from esmerge.specialists.families.language_model.teaching import answers_encoder, answers_task, exam_of, questions
from esmerge.specialists.soft_tokens.api import EncoderChoice
from esmerge.specialists.soft_tokens.encoder import encoder_digest
from esmerge.specialists.soft_tokens.stages import AdapterPlan, EncoderPlan, Stages
from esmerge.specialists.specialists import PromptStyle, Specialists
from esmerge.specialists.stage_store import StageStore
from esmerge.storage.cache import digest, tensors_digest


class _Planner:
    """Says what is taught to each encoder and specialist; the lessons are read and the backbone is loaded once."""

    def __init__(self, settings: LanguageModelSettings, context: Context) -> None:
        self.settings, self.seed = settings, context.seed
        self.lessons = read_lessons(settings, context.seed)
        self.backbone = load_backbone(settings, context)
        check_lessons(self.lessons, self.backbone, settings.encoder_choices())

    def encoder(self, modality: str, choice: EncoderChoice) -> EncoderPlan:
        """The trunk learns the answers of all lessons of the modality, the projector the questions."""
        settings, seed = self.settings, self.seed
        lessons = [lesson for lesson in self.lessons if lesson.modality == modality]
        return EncoderPlan(
            modality,
            choice,
            answers_encoder(modality, choice.features(), lessons, settings.encoder, self.backbone.embeddings(), seed),
            answers_task(lessons, settings.encoder, seed),
            questions(lessons, settings.alignment.batch, seed, f"alignment-{modality}"),
            {"lessons": digest([asdict(lesson) for lesson in lessons])},
        )

    def specialist(self, index: int, expert: str, prompt_encoder: PromptEncoder) -> AdapterPlan:
        """The expert learns the questions of its own lessons, and is examined on held-out entities."""
        settings, seed = self.settings, self.seed
        lessons = [lesson for lesson in self.lessons if lesson.expert == expert]
        return AdapterPlan(
            expert,
            settings.modality_of(expert),
            questions(lessons, settings.lora.batch, seed, f"lora-{expert}"),
            seed if settings.shared_init else seed + 1000 * (index + 1),
            {"lessons": digest([asdict(lesson) for lesson in lessons]), "exam": settings.exam},
            exam_of(prompt_encoder, lessons, settings.exam, seed),
        )


@SPECIALISTS.register("language_model", LanguageModelSettings)
def language_model(settings: LanguageModelSettings, context: Context) -> Specialists:
    """Backbone, encoders and specialists; what the cache lacks is trained now.

    Raises:
        ConfigError: no checkpoint or no root.
        InputError: a lesson's table lacks a file, a column or rows.
    """
    planner = _Planner(settings, context)
    backbone, targets = planner.backbone, tuple(settings.targets)
    expert_modality = {expert: settings.modality_of(expert) for expert in settings.experts}
    store = StageStore(context.cache)
    stages = Stages("language-model", store, context, settings.encoder, settings.alignment, settings.lora, targets)
    choices = {name: choice for name, choice in settings.encoder_choices().items() if name in expert_modality.values()}
    encoders = {name: stages.encoder(planner.encoder(name, choice), backbone) for name, choice in choices.items()}
    perceived = {modality: encoder for modality, (encoder, _) in encoders.items()}
    prompt_encoder = PromptEncoder(backbone, perceived)
    plans = {expert: planner.specialist(i, expert, prompt_encoder) for i, expert in enumerate(settings.experts)}
    trained = {expert: stages.specialist(plan, prompt_encoder) for expert, plan in plans.items()}
    adapters = {expert: state for expert, (state, _) in trained.items()}
    parts = [backbone.fingerprint, *map(encoder_digest, perceived.values()), *map(adapter_digest, adapters.values())]
    pool = pools(planner.lessons)
    return Specialists(
        name="language_model",
        backbone=backbone,
        adapters=adapters,
        expert_modality=expert_modality,
        encoders=perceived,
        language=settings.language,
        prompt_style=PromptStyle({modality: f"{modality.capitalize()}: " for modality in pool}, "\n"),
        pool=pool,
        fingerprint=digest(parts),
        finetuning=settings.finetuning,
        targets=targets,
        stages=store,
        metadata={f"lesson {lesson.name}": lesson.counts() for lesson in planner.lessons}
        | {f"encoder {modality}": recorded for modality, (_, recorded) in encoders.items()}
        | {f"specialist {expert}": recorded for expert, (_, recorded) in trained.items()},
    )


def read_lessons(settings: LanguageModelSettings, seed: int) -> list[Lesson]:
    """The lessons of the chosen experts."""
    if settings.root is None:
        raise ConfigError(
            "specialists.root is not set: give the folder that holds "
            f"{', '.join(dict.fromkeys(lesson.table for lesson in settings.lessons.values()))}, e.g. "
            "specialists.root=../data"
        )
    root, encoders = user_path(settings.root, "specialists.root"), settings.encoder_choices()
    if not root.is_dir():
        raise InputError(f"specialists.root={settings.root} is not a folder")
    lessons = []
    for name, lesson in settings.lessons.items():
        if lesson.expert not in settings.experts:
            continue
        encoder = encoders.get(lesson.modality)
        check = encoder.features().check if encoder else as_text(lesson.modality, lesson.words)
        lessons.append(read_lesson(name, lesson, root, check, settings.held_out, seed))
    return lessons


def check_lessons(lessons: Sequence[Lesson], backbone: Backbone, perceived: Container[str]) -> None:
    """Refuse lessons that are longer than the backbone reads, before anything is trained; they are counted as text.

    Raises:
        InputError: naming lesson and entity, its length, the limit, and how many there are.
    """
    prompt_encoder = PromptEncoder(backbone, {})
    for lesson in lessons:
        examples = [lesson.ask(value, 0) for side in (lesson.train, lesson.held_out) for part in side for value in part]
        check_reach(
            prompt_encoder,
            without_perceived([example.prompt for example in examples], perceived),
            partial(_lesson_name, lesson, examples),
            f"cut texts with specialists.lessons.{lesson.name}.words, or take another checkpoint",
            max(len(prompt_encoder.tokens(label)) for label in lesson.labels),
        )


def _lesson_name(lesson: Lesson, examples: Sequence[Example], index: int) -> str:
    entity = examples[index].entities()[0]
    return f"lesson {lesson.name!r}, {entity.modality} {entity.value[:40]}…"


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


def _source(checkpoint: str | None) -> dict[str, object]:
    """What distinguishes the sources of converted checkpoints."""
    path = None if checkpoint is None else user_path(checkpoint, "specialists.checkpoint")
    state = path.stat() if path is not None and path.exists() else None
    return {"source": checkpoint, "state": state and (state.st_size, state.st_mtime_ns)}
