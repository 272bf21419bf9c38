"""What a config may say about adapters of the user's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from esmerge.core.errors import ConfigError
from esmerge.specialists.api import SpecialistsConfig
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
class BackboneSource:
    """Where the backbone comes from.

    Attributes:
        path: Hugging Face folder or hub id.
        trust_remote_code: whether Python files that come with it may be run.
    """

    path: str
    trust_remote_code: bool = False


@dataclass(frozen=True)
class CustomSettings(SpecialistsConfig):
    """Settings of a set of the user's adapters.

    Attributes:
        backbone: Hugging Face folder or hub id of the model that the adapters were trained on, or the fields of
            ``BackboneSource``.
        experts: name -> PEFT folder, or the fields of ``Expert``.
        encoders: modality -> released encoder, by name and settings; a modality that is not named is read as text.
        dtype: of the backbone's weights; ``auto`` is the checkpoint's own.
        allow_partial: take a module that an expert lacks for an update of zero.
        allow_other_base: take adapters that name another backbone; their shapes must fit all the same.
        pool: JSON lines, one object per line with texts by expert name, that the probes mixed, single and shuffled draw
            from; None where the probe is text.
        language: wording of the benchmarks that they are asked in.
    """

    backbone: Any = None
    experts: dict[str, Any] = field(default_factory=dict)
    encoders: dict[str, Any] = field(default_factory=dict)
    dtype: str = "auto"
    allow_partial: bool = False
    allow_other_base: bool = False
    pool: str | None = None
    language: str = "english"
    finetuning: FineTuning = field(default_factory=FineTuning)

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ConfigError(f"dtype={self.dtype!r}: expected one of {', '.join(DTYPES)}")
        self.source()
        if len(self.experts) < 2:
            names = ", ".join(self.experts) or "none"
            raise ConfigError(
                f"a merge needs at least two experts, got {names}: give experts.NAME=PEFT_FOLDER for each"
            )
        self.described()
        self.released_encoders()

    def source(self) -> BackboneSource:
        """Where the backbone comes from; raises ``ConfigError`` naming what is wrong with it."""
        return backbone_source(self.backbone)

    def described(self) -> dict[str, Expert]:
        """The experts in the order of the config; raises ``ConfigError`` naming what is wrong with one."""
        return {str(name): _expert(str(name), value) for name, value in self.experts.items()}

    def released_encoders(self) -> dict[str, ReleasedEncoder]:
        """Modality -> its released encoder; raises ``ConfigError`` naming what is wrong with one."""
        described = self.described()
        functions = {expert.modality or name: expert.encoder for name, expert in described.items()}
        for modality in self.encoders:
            if modality not in functions:
                raise ConfigError(
                    f"encoders.{modality}: no expert perceives that, but {', '.join(functions)}: say whose modality it "
                    f"is, experts.NAME={{path: FOLDER, modality: {modality}}}"
                )
            if functions[modality] is not None:
                raise ConfigError(
                    f"encoders.{modality} and the expert's own encoder {functions[modality]} both read {modality}: "
                    "give one of them"
                )
        return {name: choose_released(node, f"encoders.{name}") for name, node in self.encoders.items()}

    def check_probe(self, probe: str) -> None:
        """Refuse a probe that draws from a pool if there is none."""
        if probe != "text" and self.pool is None:
            raise ConfigError(
                f"probe={probe} draws from texts of every expert's modality: use probe=text probe.file=FILE, or give "
                "specialists.pool=FILE"
            )


def backbone_source(value: object) -> BackboneSource:
    """A ``backbone`` node, a path or the fields of ``BackboneSource``; raises ``ConfigError`` naming what is wrong."""
    settings = [item.name for item in fields(BackboneSource)]
    node = value if isinstance(value, Mapping) else {"path": value}
    unknown = sorted(set(map(str, node)) - set(settings))
    if unknown:
        raise ConfigError(f"backbone.{unknown[0]} is not a setting: expected one of {', '.join(settings)}")
    if not node.get("path"):
        raise ConfigError("backbone is not set: give the Hugging Face folder or hub id that the experts were tuned on")
    trusted = node.get("trust_remote_code", False)
    if isinstance(node["path"], Mapping | list) or not isinstance(trusted, bool):
        raise ConfigError(
            f"backbone={value!r}: expected a folder or hub id, or {{path: FOLDER, trust_remote_code: true or false}}"
        )
    return BackboneSource(str(node["path"]), trusted)


def open_experts_node() -> None:
    """Register the config node under which ``experts.NAME=…`` and ``encoders.NAME=…`` may be added without a plus.

    Hydra locks every key of a composed config; a node that says it is not locked stays open. Files cannot say so.
    """
    node = OmegaConf.create({"experts": {}, "encoders": {}})
    for entries in node.values():
        entries._set_flag("struct", False)
    for group in (None, "specialists"):
        ConfigStore.instance().store(name="open_experts", group=group, node=node)


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
