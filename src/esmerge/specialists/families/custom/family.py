"""A set of the user's adapters: what a sweep and ``python -m src.merge`` probe and merge."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from esmerge.adapters.lora import LoraState
from esmerge.core.errors import ConfigError, InputError
from esmerge.core.lazy import LazyMapping
from esmerge.core.paths import user_path
from esmerge.model.attach import adapter_digest
from esmerge.model.backbone import Backbone
from esmerge.specialists.api import SPECIALISTS, Context
from esmerge.specialists.families.custom.backbone import load_backbone, located
from esmerge.specialists.families.custom.encoders import EntryPointEncoder, entry_point, source_digest
from esmerge.specialists.families.custom.experts import check_fit, completed, open_experts
from esmerge.specialists.families.custom.settings import CustomSettings
from esmerge.specialists.specialists import PromptStyle, Specialists
from esmerge.storage.cache import digest


@SPECIALISTS.register("custom", CustomSettings)
def custom(settings: CustomSettings, context: Context) -> Specialists:
    """The backbone with the user's adapters and encoders.

    A modality without an encoder is read as text; so is one that no expert owns, since any language model reads text.

    Raises:
        ConfigError: the backbone or an encoder cannot be loaded.
        AdapterError: an adapter is not plain LoRA, lacks modules, or is of another backbone.
    """
    adapters = completed(open_experts(settings), settings.allow_partial)
    backbone = load_backbone(located(str(settings.backbone)), settings.dtype, context.device)
    check_fit(adapters, backbone.model, backbone.name)
    specialists = assembled(settings, backbone, adapters)
    entries = [expert.encoder for expert in settings.described().values() if expert.encoder]
    parts = [
        backbone.fingerprint,
        specialists.expert_modality,
        *map(adapter_digest, adapters.values()),
        *map(source_digest, entries),
    ]
    return replace(specialists, fingerprint=digest(parts))


def assembled(settings: CustomSettings, backbone: Backbone, adapters: Mapping[str, LoraState]) -> Specialists:
    """The parts as specialists without a fingerprint; the backbone may be one without weights, which cannot run.

    Raises:
        ConfigError: an encoder cannot be imported.
    """
    described = settings.described()
    expert_modality = {name: expert.modality or name for name, expert in described.items()}
    hidden = backbone.embeddings().shape[1]
    encoders = {
        modality: EntryPointEncoder(modality, expert.encoder, entry_point(expert.encoder), hidden)
        for modality, expert in zip(expert_modality.values(), described.values(), strict=True)
        if expert.encoder
    }
    return Specialists(
        name="custom",
        backbone=backbone,
        adapters=adapters,
        expert_modality=expert_modality,
        encoders=encoders,
        language=settings.language,
        prompt_style=PromptStyle({modality: f"{modality}: " for modality in expert_modality.values()}, "\n"),
        pool=_pool(settings, expert_modality),
        fingerprint="",
        finetuning=settings.finetuning,
        targets=_targets(adapters),
        metadata={
            name: f"{len(state.modules)} modules from {described[name].path}" for name, state in adapters.items()
        },
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
        pool = [sample[name] for sample in samples for name in names if isinstance(sample.get(name), str)]
        if not pool:
            raise InputError(f"specialists.pool={settings.pool} holds no text for {' or '.join(names)}")
        return pool

    return LazyMapping(expert_modality.values(), texts)


def _read_pool(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise ConfigError(f"specialists.pool={path} does not exist: expected JSON lines with texts by expert name")
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    try:
        return [json.loads(line) for line in lines]
    except json.JSONDecodeError as error:
        raise InputError(f"specialists.pool={path} is not JSON lines: {error}") from error
