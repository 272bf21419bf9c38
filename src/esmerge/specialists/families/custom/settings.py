"""What a config may say about adapters of the user's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from esmerge.core.errors import ConfigError
from esmerge.model.chat import ChatSettings
from esmerge.model.placeholders import TokenSettings
from esmerge.specialists.api import SpecialistsConfig
from esmerge.specialists.families.custom.source import LoadedBackbone, backbone_source
from esmerge.specialists.families.custom.teaching import TeachingSettings
from esmerge.specialists.soft_tokens.released import ReleasedEncoder, choose_released
from esmerge.specialists.specialists import FineTuning

DTYPES = ("auto", "bfloat16", "float16", "float32")
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # a part of file names and of tensors' names


@dataclass(frozen=True)
class Expert:
    """One adapter.

    Attributes:
        path: its PEFT folder.
        encoder: ``package.module:function`` that turns texts into embeddings; None to read them as text.
        modality: what it perceives; None for the expert's own name.
    """

    path: str
    encoder: str | None = None
    modality: str | None = None


@dataclass(frozen=True)
class LearnerSettings(SpecialistsConfig):
    """Settings of the user's backbone, on which specialists work and one may be taught.

    Attributes:
        backbone: Hugging Face folder or hub id of the model that the adapters were trained on, or the fields of
            ``LoadedBackbone``.
        dtype: of the backbone's weights; ``auto`` is the checkpoint's own.
        language: wording of the benchmarks that they are asked in.
        chat: whether, and how, a question is a turn of a chat.
        tokens: padding and placeholders, which the tokenizer must have.
        teaching: expert -> how ``python -m src.train specialist=NAME`` teaches one that fits the backbone.
        root: folder with the tables that are taught; read in training alone.
    """

    backbone: Any = None
    dtype: str = "auto"
    language: str = "english"
    chat: ChatSettings = field(default_factory=ChatSettings)
    tokens: TokenSettings = field(default_factory=TokenSettings)
    teaching: dict[str, TeachingSettings] = field(default_factory=dict)
    root: str | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ConfigError(f"dtype={self.dtype!r}: expected one of {', '.join(DTYPES)}")
        self.source()

    def source(self) -> LoadedBackbone:
        """Where the backbone comes from; raises ``ConfigError`` naming what is wrong with it."""
        return backbone_source(self.backbone, LoadedBackbone)


@dataclass(frozen=True)
class CustomSettings(LearnerSettings):
    """Settings of a set of the user's adapters.

    Attributes:
        experts: name -> PEFT folder, or the fields of ``Expert``.
        encoders: modality -> released encoder, by name and settings; without a path it is in the folder of the expert
            that owns the modality, where ``esmerge unpack`` put both. A modality that is not named is read as text.
        allow_partial: take a module that an expert lacks for an update of zero.
        allow_other_base: take adapters that name another backbone; their shapes must fit all the same.
        pool: JSON lines, one object per line with texts by expert name, that the probes mixed, single and shuffled draw
            from; None where the probe is text.
        finetuning: how a reference is trained on a benchmark.
    """

    experts: dict[str, Any] = field(default_factory=dict)
    encoders: dict[str, Any] = field(default_factory=dict)
    allow_partial: bool = False
    allow_other_base: bool = False
    pool: str | None = None
    finetuning: FineTuning = field(default_factory=FineTuning)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.experts) < 2:
            names = ", ".join(self.experts) or "none"
            raise ConfigError(
                f"a merge needs at least two experts, got {names}: give experts.NAME=PEFT_FOLDER for each"
            )
        self._check_one_encoder_each()
        self.released_encoders()

    def _check_one_encoder_each(self) -> None:
        """Refuse two encoders of one modality: whose of them read a text would not be said."""
        encoders: dict[str, tuple[str, str]] = {}
        for name, expert in self.described().items():
            if expert.encoder is None:
                continue
            modality = expert.modality or name
            owner, encoder = encoders.setdefault(modality, (name, expert.encoder))
            if encoder != expert.encoder:
                raise ConfigError(
                    f"experts.{owner}.encoder={encoder} and experts.{name}.encoder={expert.encoder} both read "
                    f"{modality}: give both one encoder, or modalities of their own"
                )

    def described(self) -> dict[str, Expert]:
        """The experts in the order of the config; raises ``ConfigError`` naming what is wrong with one."""
        for name, value in self.experts.items():
            if value is None or (isinstance(value, Mapping) and "path" in value and value["path"] is None):
                teachable = f" (python -m src.train specialist={name} makes one)" if name in self.teaching else ""
                raise ConfigError(
                    f"experts.{name} is not set: give its PEFT folder{teachable}, or leave the expert out, "
                    f"~specialists.experts.{name}"
                )
        return {str(name): _expert(str(name), value) for name, value in self.experts.items()}

    def released_encoders(self) -> dict[str, ReleasedEncoder]:
        """Modality -> its released encoder; raises ``ConfigError`` naming what is wrong with one."""
        described = self.described()
        owners = {expert.modality or name: expert for name, expert in described.items()}
        for modality in self.encoders:
            if modality not in owners:
                raise ConfigError(
                    f"encoders.{modality}: no expert perceives that, but {', '.join(owners)}: say whose modality it "
                    f"is, experts.NAME={{path: FOLDER, modality: {modality}}}"
                )
            if owners[modality].encoder is not None:
                raise ConfigError(
                    f"encoders.{modality} and the expert's own encoder {owners[modality].encoder} both read "
                    f"{modality}: give one of them"
                )
        return {
            name: choose_released(_with_path(node, owners[name].path), f"encoders.{name}")
            for name, node in self.encoders.items()
        }

    def check_probe(self, probe: str) -> None:
        """Refuse a probe of the specialists' own entities if there is no pool of them."""
        if self.pool is None:
            raise ConfigError(
                f"probe={probe} draws from texts of every expert's modality: use probe=text probe.file=FILE, or give "
                "specialists.pool=FILE"
            )


def open_experts_node() -> None:
    """Register the config node under which ``experts.NAME=…`` and ``encoders.NAME=…`` may be added without a plus.

    Hydra locks every key of a composed config; a node that says it is not locked stays open. Files cannot say so.
    """
    node = OmegaConf.create({"experts": {}, "encoders": {}})
    for entries in node.values():
        entries._set_flag("struct", False)
    for group in (None, "specialists"):
        ConfigStore.instance().store(name="open_experts", group=group, node=node)


def _with_path(node: object, folder: str) -> object:
    """An encoder's node with the folder of its expert where it names none."""
    settings = node if isinstance(node, Mapping) else {"name": node}
    return settings if settings.get("path") else {**settings, "path": folder}


def _expert(name: str, value: object) -> Expert:
    if not NAME.fullmatch(name):
        raise ConfigError(f"experts.{name}: a name is made of 1 to 64 letters, digits, - and _")
    settings = [item.name for item in fields(Expert)]
    node = value if isinstance(value, Mapping) else {"path": value}
    unknown = sorted(set(map(str, node)) - set(settings))
    if unknown:
        raise ConfigError(f"experts.{name}.{unknown[0]} is not a setting: expected one of {', '.join(settings)}")
    wrong = [key for key, setting in node.items() if setting is not None and not isinstance(setting, str)]
    if wrong or not node.get("path"):
        raise ConfigError(
            f"experts.{name}={value!r}: expected a PEFT folder, or {{path: FOLDER, encoder: MODULE:FUNCTION}}"
        )
    if node.get("encoder") and not re.fullmatch(r"[\w.]+:[\w.]+", str(node["encoder"])):
        raise ConfigError(f"experts.{name}.encoder={node['encoder']!r}: expected package.module:function")
    return Expert(**node)
