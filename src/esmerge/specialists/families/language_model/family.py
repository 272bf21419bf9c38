"""Specialists on a real language model: checkpoint, encoders and adapters, each made on first use and kept."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from esmerge.core.paths import user_path
from esmerge.model.backbone import Backbone
from esmerge.specialists.api import SPECIALISTS, Context
from esmerge.specialists.families.language_model.lessons import pools
from esmerge.specialists.families.language_model.number_formats import faster_format
from esmerge.specialists.families.language_model.planning import Planner, check_lessons, read_lessons
from esmerge.specialists.families.language_model.settings import AUTO, LanguageModelSettings
from esmerge.specialists.families.language_model.smollm2 import prepare_checkpoint
from esmerge.specialists.families.language_model.teacher import teach
from esmerge.specialists.soft_tokens.stages import Stages
from esmerge.specialists.specialists import PromptStyle, Specialists
from esmerge.specialists.stage_store import StageStore
from esmerge.storage.cache import digest
from esmerge.storage.tensor_digest import tensors_digest


@SPECIALISTS.register("language_model", LanguageModelSettings)
def language_model(settings: LanguageModelSettings, context: Context) -> Specialists:
    """Backbone, encoders and specialists; what the cache lacks is trained now.

    Raises:
        ConfigError: no checkpoint or no root.
        InputError: a lesson's table lacks a file, a column or rows.
    """
    store, targets = StageStore(context.cache), tuple(settings.targets)
    lessons = read_lessons(settings, context.seed)
    backbone = load_backbone(settings.checkpoint, settings.dtype, context)
    check_lessons(lessons, backbone, settings.encoder_choices())
    stages = Stages("language-model", store, context, settings.encoder, settings.alignment, settings.lora, targets)
    taught = teach(settings, stages, Planner(settings, lessons, backbone, context.seed))
    pool = pools(lessons)
    return Specialists(
        name="language_model",
        backbone=backbone,
        adapters=taught.adapters,
        expert_modality={expert: settings.modality_of(expert) for expert in settings.experts},
        encoders=taught.encoders,
        language=settings.language,
        prompt_style=PromptStyle({modality: f"{modality.capitalize()}: " for modality in pool}, "\n"),
        pool=pool,
        taught=pool,
        fingerprint=digest([backbone.fingerprint, *taught.finished()]),
        finetuning=settings.finetuning,
        targets=targets,
        stages=store,
        metadata={f"lesson {lesson.name}": lesson.counts() for lesson in lessons} | taught.recorded,
    )


def load_backbone(checkpoint: str | None, dtype_name: str, context: Context) -> Backbone:
    """A checkpoint as a frozen model in a number format, or in the faster one where it is ``auto``."""
    folder = context.cache.path("checkpoint", _source(checkpoint))
    name = prepare_checkpoint(checkpoint, folder)
    dtype = getattr(torch, faster_format(context.device) if dtype_name == AUTO else dtype_name)
    # On a CPU, torch's fused attention passes short sequences backwards more slowly than plain products do.
    attention = "eager" if context.device == "cpu" else None
    model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype, attn_implementation=attention)
    model.eval().requires_grad_(False).to(context.device)
    tokenizer = AutoTokenizer.from_pretrained(name)
    fingerprint = tensors_digest(dict(model.named_parameters()), sorted(tokenizer.get_vocab().items()))
    return Backbone(model, tokenizer, name, fingerprint)


def _source(checkpoint: str | None) -> dict[str, object]:
    """What distinguishes the sources of converted checkpoints."""
    path = None if checkpoint is None else user_path(checkpoint, "specialists.checkpoint")
    state = path.stat() if path is not None and path.exists() else None
    return {"source": checkpoint, "state": state and (state.st_size, state.st_mtime_ns)}
