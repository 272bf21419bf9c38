"""The user's backbone: its shape without its weights, its tokenizer, and the whole of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

from esmerge.core.errors import ConfigError
from esmerge.core.paths import user_path
from esmerge.model.backbone import Backbone
from esmerge.storage.cache import tensors_digest

Loaded = TypeVar("Loaded")


def located(name: str) -> str:
    """The absolute path of a folder, or the hub id as it is."""
    path = user_path(name, "backbone")
    return os.path.abspath(path) if path.exists() else name


def read_config(name: str) -> PretrainedConfig:
    """The backbone's config.

    Raises:
        ConfigError: there is no such folder and no such model can be reached on the hub, or it is no plain decoder-only
            language model.
    """
    config: PretrainedConfig = _load(name, lambda: AutoConfig.from_pretrained(name))
    if getattr(config, "is_encoder_decoder", False):
        raise ConfigError(f"backbone={name} is a {config.model_type} with an encoder: expected a decoder-only model")
    quantised = getattr(config, "quantization_config", None)
    if quantised:
        raise ConfigError(f"backbone={name} is quantised: give the model that it was made from, in plain numbers")
    return config


def skeleton(name: str) -> nn.Module:
    """The backbone's modules without their weights; for errors see ``read_config``."""
    config = read_config(name)
    try:
        with torch.device("meta"):
            model: nn.Module = AutoModelForCausalLM.from_config(config)
    except ValueError as error:
        raise ConfigError(
            f"backbone={name} is a {config.model_type}, no causal language model: {_first(error)}"
        ) from error
    return model


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The backbone's tokenizer; raises ``ConfigError`` if there is none."""
    return _load(name, lambda: AutoTokenizer.from_pretrained(name))


def load_backbone(name: str, dtype: str, device: str) -> Backbone:
    """The frozen backbone.

    Args:
        name: folder or hub id.
        dtype: of its weights, as torch calls it; ``auto`` is the checkpoint's own.
        device: where it runs.

    Raises:
        ConfigError: it cannot be loaded; the message says why and what to do.
    """
    torch_dtype = dtype if dtype == "auto" else getattr(torch, dtype)
    model = _load(name, lambda: AutoModelForCausalLM.from_pretrained(name, dtype=torch_dtype))
    model.eval().requires_grad_(False).to(device)
    tokenizer = load_tokenizer(name)
    fingerprint = tensors_digest(dict(model.named_parameters()), sorted(tokenizer.get_vocab().items()))
    return Backbone(model, tokenizer, name, fingerprint)


def names_of(name: str) -> set[str]:
    """What the backbone may be called in an adapter's config: its path or id, and the name its own config gives."""
    path = Path(name) / "config.json"
    if not path.is_file():
        return {name}
    try:
        recorded = json.loads(path.read_text(encoding="utf-8")).get("_name_or_path")
    except (json.JSONDecodeError, OSError):
        recorded = None
    return {name, *([recorded] if recorded else [])}


def same_model(first: str, second: str) -> bool:
    """Whether two names may be of one model: equal but for folders, owners, letter case and the hub's cache layout."""
    return first == second or _plain(first) == _plain(second)


def _plain(name: str) -> str:
    for part in reversed(Path(name).parts):
        if part.startswith("models--"):
            return part.rpartition("--")[2].lower()
    return Path(os.path.abspath(name) if Path(name).exists() else name).name.lower()


def _load(name: str, load: Callable[[], Loaded]) -> Loaded:
    try:
        return load()
    except (OSError, ValueError, ImportError) as error:
        if Path(name).exists():
            raise ConfigError(f"backbone={name} cannot be loaded: {_first(error)}") from error
        raise ConfigError(
            f"backbone={name} is no folder here, and the hub has no such model or cannot be reached: give a folder "
            f"that save_pretrained wrote, or a hub id ({_first(error)})"
        ) from error


def _first(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
