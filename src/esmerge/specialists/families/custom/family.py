"""A set of the user's adapters: what a sweep and ``python -m src.merge`` probe and merge."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from esmerge.adapters.lora import PREFIX, LoraState
from esmerge.core.errors import ConfigError, InputError
from esmerge.core.json_lines import Record, read_json_lines
from esmerge.core.lazy import LazyMapping
from esmerge.core.paths import user_path
from esmerge.model.attach import adapter_digest
from esmerge.model.backbone import Backbone
from esmerge.model.chat import read_chat
from esmerge.model.encoder import ModalityEncoder
from esmerge.specialists.api import SPECIALISTS, Context
from esmerge.specialists.families.custom.backbone import load_backbone, located, skeleton
from esmerge.specialists.families.custom.encoders import (
    EntryPointEncoder,
    entry_point,
    source_digest,
    stored_encoders,
)
from esmerge.specialists.families.custom.experts import (
    UNTRAINED,
    check_fit,
    completed,
    on_backbone,
    open_experts,
    untrained,
)
from esmerge.specialists.families.custom.settings import CustomSettings, LearnerSettings
from esmerge.specialists.soft_tokens.stored import StoredEncoder
from esmerge.specialists.specialists import FineTuning, PromptStyle, Specialists
from esmerge.storage.cache import digest


def learner(settings: LearnerSettings, expert: str, context: Context) -> Specialists:
    """The bare backbone as an expert's adapter is trained on it: it reads every modality as text.

    Args:
        expert: one that ``settings.teaching`` names.

    Raises:
        ConfigError: the backbone cannot be loaded, or its tokenizer lacks a token.
    """
    source, taught = settings.source(), settings.teaching[expert]
    source = replace(source, path=located(source.path))
    backbone = load_backbone(source, settings.dtype, context.device, tokens=settings.tokens)
    return Specialists(
        name="custom",
        backbone=backbone,
        adapters={},
        expert_modality={expert: expert},
        encoders={},
        language=settings.language,
        prompt_style=PromptStyle({expert: f"{expert}: "}, "\n"),
        pool={},
        fingerprint=digest([backbone.fingerprint, asdict(settings.tokens)]),
        finetuning=FineTuning(taught.steps, taught.batch, taught.rate, taught.weight_decay, taught.rank, taught.alpha),
        targets=tuple(taught.targets),
        chat=read_chat(backbone.tokenizer, settings.chat) if settings.chat.enabled else None,
    )


@SPECIALISTS.register("custom", CustomSettings)
def custom(settings: CustomSettings, context: Context) -> Specialists:
    """The backbone with the user's adapters and encoders.

    A modality without an encoder is read as text; so is one that no expert owns, since any language model reads text.

    Raises:
        ConfigError: the backbone or an encoder cannot be loaded.
        AdapterError: an adapter is not plain LoRA, lacks modules, or is of another backbone.
    """
    source, opened = settings.source(), open_experts(settings)
    name, trusted = located(source.path), source.trust_remote_code
    hollow = skeleton(name, trusted)
    adapters = completed(on_backbone(opened, hollow, name), settings.allow_partial)
    check_fit(adapters, hollow, name)
    for expert in untrained(adapters):
        warnings.warn(f"experts.{expert}: {UNTRAINED} ({settings.described()[expert].path})", stacklevel=2)
    adapted = {module.removeprefix(PREFIX) for state in adapters.values() for module in state.modules}
    source = replace(source, path=name)
    backbone = load_backbone(source, settings.dtype, context.device, adapted, settings.tokens)
    specialists = assembled(settings, backbone, adapters, context)
    released = [e.released.digest() for e in specialists.encoders.values() if isinstance(e, StoredEncoder)]
    encoders = {
        name: [expert.encoder, source_digest(expert.encoder)]
        for name, expert in settings.described().items()
        if expert.encoder
    }
    parts = [
        backbone.fingerprint,
        specialists.expert_modality,
        *map(adapter_digest, adapters.values()),
        *([encoders] if encoders else []),
        *released,
        *([asdict(settings.tokens)] if backbone.placeholders else []),
    ]
    return replace(specialists, fingerprint=digest(parts))


def assembled(
    settings: CustomSettings, backbone: Backbone, adapters: Mapping[str, LoraState], context: Context
) -> Specialists:
    """The parts as specialists without a fingerprint; the backbone may be one without weights, which cannot run.

    Raises:
        AdapterError: a released encoder is not there.
        ConfigError: an encoder cannot be imported, or is of another backbone.
    """
    described = settings.described()
    expert_modality = {name: expert.modality or name for name, expert in described.items()}
    hidden = backbone.embeddings().shape[1]
    encoders: dict[str, ModalityEncoder] = {
        modality: EntryPointEncoder(modality, expert.encoder, entry_point(expert.encoder), hidden)
        for modality, expert in zip(expert_modality.values(), described.values(), strict=True)
        if expert.encoder
    }
    return Specialists(
        name="custom",
        backbone=backbone,
        adapters=adapters,
        expert_modality=expert_modality,
        encoders={**encoders, **stored_encoders(settings.released_encoders(), hidden, context)},
        language=settings.language,
        prompt_style=PromptStyle({modality: f"{modality}: " for modality in expert_modality.values()}, "\n"),
        pool=_pool(settings, expert_modality),
        fingerprint="",
        finetuning=settings.finetuning,
        targets=_targets(adapters),
        metadata={
            name: f"{len(state.modules)} modules from {described[name].path}" for name, state in adapters.items()
        },
        chat=read_chat(backbone.tokenizer, settings.chat) if settings.chat.enabled else None,
    )


def _targets(adapters: Mapping[str, LoraState]) -> tuple[str, ...]:
    """The last parts of the adapted modules' names: what a fine-tuned reference adapts as well."""
    modules = next(iter(adapters.values())).modules
    return tuple(dict.fromkeys(module.rpartition(".")[2] for module in modules))


def _pool(settings: CustomSettings, expert_modality: Mapping[str, str]) -> Mapping[str, Sequence[str]]:
    """Modality -> texts, read from the pool's file when they are asked for."""

    def texts(modality: str) -> list[str]:
        if settings.pool is None:
            settings.check_probe("mixed")
        samples = _read_pool(user_path(str(settings.pool), "specialists.pool"))
        names = [name for name, perceived in expert_modality.items() if perceived == modality]
        pool = [_text(sample, name, where) for where, sample in samples for name in names if name in sample]
        if not pool:
            raise InputError(f"specialists.pool={settings.pool} holds no text for {' or '.join(names)}")
        return pool

    return LazyMapping(expert_modality.values(), texts)


def _read_pool(path: Path) -> list[tuple[str, Record]]:
    """Each line's place in the file, and its texts by expert name."""
    if not path.is_file():
        raise ConfigError(f"specialists.pool={path} does not exist: expected JSON lines with texts by expert name")
    try:
        return [(f"specialists.pool={path}, line {number}", sample) for number, sample in read_json_lines(path)]
    except InputError as error:
        raise InputError(f"specialists.pool={path} is not JSON lines: {error}") from error


def _text(sample: Record, expert: str, where: str) -> str:
    text = sample[expert]
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{where} has {text!r} for expert {expert!r}: expected a text that is not empty, or no entry")
    return text
