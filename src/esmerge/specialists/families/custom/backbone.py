"""The user's backbone: its shape without its weights, its tokenizer, and the whole of it."""

from __future__ import annotations

import json
import os
import sys
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

from esmerge.adapters.lora import some
from esmerge.core.errors import ConfigError
from esmerge.core.paths import user_path
from esmerge.model.backbone import Backbone
from esmerge.model.linear_layers import replace_conv1d, separate_experts
from esmerge.model.placeholders import TokenSettings, set_placeholders
from esmerge.specialists.families.custom.holding import check_resident, holding, keep_differentiable
from esmerge.specialists.families.custom.source import LoadedBackbone
from esmerge.storage.files import file_sha256
from esmerge.storage.tensor_digest import tensors_digest

Loaded = TypeVar("Loaded")
OF_THE_COPY = ("_name_or_path", "transformers_version")  # keys of a config that say nothing of what the model computes
OF_A_CALL = ("truncation", "padding")  # what a tokenizer remembers of its last call
BEGINNING = "begins with"  # no word and no rule of a tokenizer
DYNAMIC_MODULES = "transformers_modules"  # the package that transformers makes of a backbone's own files


def located(name: str) -> str:
    """The absolute path of a folder, or the hub id as it is."""
    path = user_path(name, "backbone")
    return os.path.abspath(path) if path.exists() else name


def read_config(name: str, trusted: bool = False) -> PretrainedConfig:
    """The backbone's config.

    Args:
        name: folder or hub id.
        trusted: whether code of the backbone's own may be run; nobody is asked in between.

    Raises:
        ConfigError: there is no such folder and no such model can be reached on the hub, it is no plain decoder-only
            language model, or it brings code of its own that is not trusted.
    """
    config: PretrainedConfig = _load(name, trusted, lambda: AutoConfig.from_pretrained(name, trust_remote_code=trusted))
    if getattr(config, "is_encoder_decoder", False):
        raise ConfigError(f"backbone={name} is a {config.model_type} with an encoder: expected a decoder-only model")
    quantised = getattr(config, "quantization_config", None)
    if quantised:
        raise ConfigError(f"backbone={name} is quantised: give the model that it was made from, in plain numbers")
    return config


def skeleton(name: str, trusted: bool = False) -> PreTrainedModel:
    """The backbone's modules without their weights, all in the form that adapters find; see ``read_config``."""
    model = hollow_model(name, trusted)
    replace_conv1d(model)
    separate_experts(model)
    return model


def hollow_model(name: str, trusted: bool = False) -> PreTrainedModel:
    """The backbone's modules as transformers builds them, without their weights; see ``read_config``."""
    config = read_config(name, trusted)
    try:
        with torch.device("meta"):
            auto_class: Any = _auto_class(config)
            model: PreTrainedModel = auto_class.from_config(config, trust_remote_code=trusted)
    except Exception as error:
        if _asks_for_trust(error):
            raise _untrusted(name) from error
        if trusted:
            raise _own_code_failed(name, error) from error
        if not isinstance(error, ValueError):
            raise
        raise ConfigError(
            f"backbone={name} is a {config.model_type}, no causal language model: {_first(error)}"
        ) from error
    return model


def load_tokenizer(name: str, trusted: bool = False) -> PreTrainedTokenizerBase:
    """The backbone's tokenizer; raises ``ConfigError`` if there is none."""
    return _load(name, trusted, lambda: AutoTokenizer.from_pretrained(name, trust_remote_code=trusted))


def load_backbone(
    source: LoadedBackbone,
    dtype: str,
    device: str,
    adapted: Iterable[str] = (),
    tokens: TokenSettings = TokenSettings(),  # noqa: B008 (frozen)
) -> Backbone:
    """The frozen backbone.

    Args:
        source: folder or hub id, whether code of its own may be run, and how its weights are held.
        dtype: of its weights, as torch calls it; ``auto`` is the checkpoint's own.
        device: where it runs, unless the source spreads it over several.
        adapted: paths of the linear layers that adapters change.
        tokens: padding and placeholders, which its tokenizer must have.

    Raises:
        ConfigError: it cannot be loaded, or lacks weights or tokens; the message says why and what to do. Of a backbone
            that was saved without its head, this is raised when an answer is asked of it.
    """
    name, trusted = source.path, source.trust_remote_code
    tokenizer = load_tokenizer(name, trusted)
    placeholders = set_placeholders(tokenizer, tokens) if tokens != TokenSettings() else None
    torch_dtype = dtype if dtype == "auto" else getattr(torch, dtype)
    model, missing = _load_weights(source, torch_dtype, device)
    random_head = _refuse_random(name, model, missing)
    model.eval().requires_grad_(False)
    if source.on_one_device:
        typing.cast(nn.Module, model).to(device)
    weights = {key: weight for key, weight in model.named_parameters() if key not in random_head}
    fingerprint = tensors_digest(weights, [_shape(model), _wording(tokenizer), *own_code(model)])
    replace_conv1d(model)
    separate_experts(model, adapted)
    backbone = Backbone(model, tokenizer, name, fingerprint, placeholders)
    if backbone.start_id is not None and not backbone.known_ids([backbone.start_id]):
        raise ConfigError(
            f"backbone={name}: its tokenizer begins a prompt with {tokenizer.bos_token!r}, token {backbone.start_id}, "
            f"and there are embeddings of {backbone.vocabulary_rows} tokens: give the tokenizer that belongs to it"
        )
    return backbone


def _shape(model: PreTrainedModel) -> dict[str, object]:
    """What a config says beside the weights: rotary frequencies, epsilons, activations …"""
    recorded: dict[str, object] = json.loads(model.config.to_json_string(use_diff=False))
    return {key: value for key, value in recorded.items() if key not in OF_THE_COPY}


def _wording(tokenizer: PreTrainedTokenizerBase) -> dict[str, object]:
    """How a tokenizer makes a prompt: its words, if it is a fast one its rules, and the token that begins a prompt."""
    if not tokenizer.is_fast:
        return {**tokenizer.get_vocab(), BEGINNING: tokenizer.bos_token_id}
    rules: dict[str, object] = json.loads(tokenizer.backend_tokenizer.to_str())
    return {**{key: value for key, value in rules.items() if key not in OF_A_CALL}, BEGINNING: tokenizer.bos_token_id}


def own_code(model: nn.Module) -> list[str]:
    """Hashes of the Python files that a backbone brought, sorted; none where transformers has its architecture."""
    modules = {type(part).__module__ for part in model.modules()}
    folders = {
        Path(file).parent
        for name in modules
        if name.partition(".")[0] == DYNAMIC_MODULES and (file := sys.modules[name].__file__)
    }
    return sorted(file_sha256(path) for folder in folders for path in folder.glob("*.py"))


def _load_weights(source: LoadedBackbone, dtype: str | torch.dtype, device: str) -> tuple[PreTrainedModel, set[str]]:
    """The model, and the names of the weights that its checkpoint lacks."""
    name, trusted = source.path, source.trust_remote_code
    auto_class: Any = _auto_class(read_config(name, trusted))
    options = {"dtype": dtype, "trust_remote_code": trusted, **holding(source, dtype, device)}
    model, report = _load(name, trusted, lambda: auto_class.from_pretrained(name, output_loading_info=True, **options))
    check_resident(model)
    keep_differentiable(model)
    return model, set(report["missing_keys"])


def _auto_class(config: PretrainedConfig) -> type:
    """What builds the model: most wrappers with a vision tower are no causal language models to transformers."""
    only_wrapper = (
        config.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
        and config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    )
    return AutoModelForImageTextToText if only_wrapper else AutoModelForCausalLM


def _refuse_random(name: str, model: PreTrainedModel, missing: set[str]) -> set[str]:
    """Refuse a checkpoint without weights that adapters build on; the head's names if it lacks them.

    transformers draws at random what a checkpoint lacks. A probe reads no head, so only its use is refused.
    """
    head = model.get_output_embeddings()
    of_head = {
        path for path, weight in model.named_parameters() if head and any(weight is w for w in head.parameters())
    }
    missing_weights = sorted(missing - of_head)
    if missing_weights:
        raise ConfigError(f"backbone={name} lacks the weights {some(missing_weights)}: copy or download it again")
    if missing & of_head:

        def refuse(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            raise ConfigError(
                f"backbone={name} was saved without its head ({', '.join(sorted(missing))}), so it has no answers: "
                "give the language model with its head"
            )

        head.register_forward_pre_hook(refuse)
    return missing & of_head


def _load(name: str, trusted: bool, load: Callable[[], Loaded]) -> Loaded:
    try:
        return load()
    except (OSError, ValueError, ImportError) as error:
        if _asks_for_trust(error):
            raise _untrusted(name) from error
        if Path(name).exists():
            raise ConfigError(f"backbone={name} cannot be loaded: {_first(error)}") from error
        raise ConfigError(
            f"backbone={name} is no folder here, and the hub has no such model or cannot be reached: give a folder "
            f"that save_pretrained wrote, or a hub id ({_first(error)})"
        ) from error
    except Exception as error:  # whatever code of the backbone's own may raise
        if not trusted:
            raise
        raise _own_code_failed(name, error) from error


def _asks_for_trust(error: BaseException) -> bool:
    return "trust_remote_code" in str(error)


def _untrusted(name: str) -> ConfigError:
    return ConfigError(
        f"backbone={name} brings code of its own, which would be run with your rights: read its .py files, then say "
        "backbone.trust_remote_code=true (in sweeps specialists.backbone.trust_remote_code=true)"
    )


def _own_code_failed(name: str, error: BaseException) -> ConfigError:
    return ConfigError(
        f"backbone={name}: its own code failed ({type(error).__name__}: {_first(error)}); it may be made for another "
        f"version of transformers than {transformers.__version__}"
    )


def _first(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
