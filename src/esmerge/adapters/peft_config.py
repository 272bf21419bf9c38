"""A PEFT folder's ``adapter_config.json``: what is refused, each module's rank and scale, and what is written."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from esmerge.adapters.lora import PREFIX
from esmerge.adapters.peft_files import CONFIG
from esmerge.core.errors import AdapterError, InputError, shown
from esmerge.core.json_lines import read_json_object

# Options of PEFT's LoraConfig under which an adapter is more, or other, than scale * B @ A on linear layers.
REFUSED = {
    "use_dora": "DoRA rescales the backbone's weights",
    "lora_bias": "the adapter trains a bias of its own",
    "modules_to_save": "whole modules were trained beside the LoRA factors",
    "trainable_token_indices": "token embeddings were trained beside the LoRA factors",
    "layer_replication": "the adapter changes the number of layers",
    "target_parameters": "the adapter updates bare parameters, not linear layers",
    "alora_invocation_tokens": "activated LoRA applies to part of the tokens only",
    "use_qalora": "QA-LoRA pools its input",
    "use_bdlora": "block-diagonal LoRA stores its factors otherwise",
    "arrow_config": "Arrow routes between adapters",
    "kasa_config": "KaSA changes the backbone's weights",
    "velora_config": "VeLoRA changes the forward pass",
    "monteclora_config": "MonteCLoRA samples its factors",
}
# Options that say how an adapter was trained, or what is observed elsewhere; the last row is of trainers.
HARMLESS = (
    *("peft_type", "task_type", "base_model_name_or_path", "revision", "inference_mode", "auto_mapping"),
    *("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "bias", "fan_in_fan_out", "lora_dropout"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "init_lora_weights"),
    *("loftq_config", "eva_config", "corda_config", "lora_ga_config", "runtime_config", "ensure_weight_tying"),
    *("megatron_config", "megatron_core", "qalora_group_size", "peft_version"),
    *("lora_dtype", "lorap_lr_ratio", "lorap_emb_lr", "unsloth_fixed"),
)
NO_FINE_TUNE = ("alora_invocation_tokens", "arrow_config", "monteclora_config")  # whose update depends on the input
LARGEST_RANK = 2**20  # wider than any layer
LARGEST_ALPHA = 1e30  # beyond, a scale times a factor is infinite in float32
CHANGES_BACKBONE = ("pissa", "olora", "corda", "loftq", "lora_ga")  # init_lora_weights that edit the backbone


def read_config(folder: Path, name: str, allowed: Collection[str] = ()) -> dict[str, Any]:
    """The config of adapter ``name``.

    Args:
        allowed: options of ``REFUSED`` that the caller sees to itself.

    Raises:
        AdapterError: it is missing, not JSON, not LoRA, or more than plain LoRA.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise AdapterError(f"adapter {name!r}: {path} does not exist; expected a folder written by PEFT")
    try:
        config = read_json_object(path)
    except InputError as error:
        raise AdapterError(f"adapter {name!r}: {error}") from error
    check_settings(config, name, path, allowed)
    return config


def check_settings(config: Mapping[str, Any], name: str, path: Path, allowed: Collection[str] = ()) -> None:
    """Refuse settings of adapter ``name``, which stand in ``path``, that are not those of plain LoRA.

    Args:
        allowed: options of ``REFUSED`` that the caller sees to itself.

    Raises:
        AdapterError: they are not LoRA, do not say rank and alpha, or are of more than plain LoRA.
    """
    if config.get("peft_type") != "LORA":
        raise AdapterError(
            f"adapter {name!r} is of type {shown(config.get('peft_type'))}: only LORA adapters can be merged"
        )
    absent = [key for key in ("r", "lora_alpha") if config.get(key) is None]
    if absent:
        raise AdapterError(f"adapter {name!r}: {path} does not say {' and '.join(absent)}, so its scale is unknown")
    _refuse_unmergeable(config, name, allowed)
    _check_numbers(config, f"adapter {name!r}: {path}")


def unknown_settings(config: Mapping[str, Any]) -> list[str]:
    """Settings, as ``name=value``, that are set and that no PEFT known here has: what they do is not known."""
    known = {*REFUSED, *HARMLESS}
    return [f"{key}={shown(value)}" for key, value in config.items() if key not in known and value]


def rank_and_scale(config: Mapping[str, Any], module: str, stored: str | None = None) -> tuple[int, float]:
    """A module's rank, and its scale alpha / rank (alpha / sqrt(rank) for rsLoRA), patterns observed.

    Args:
        stored: the module's name in the file, where parts of it that a wrapper added were left out: patterns that were
            written for a wrapped model name them.
    """
    paths = [name.removeprefix(PREFIX) for name in dict.fromkeys((stored or module, module))]
    rank = int(_matching(config.get("rank_pattern"), paths, config["r"]))
    alpha = float(_matching(config.get("alpha_pattern"), paths, config["lora_alpha"]))
    return rank, alpha / rank**0.5 if config.get("use_rslora") else alpha / rank


def plain_config(facts: Mapping[str, tuple[int, float]], base_model: str | None) -> dict[str, Any]:
    """The config of a plain LoRA adapter.

    Args:
        facts: module -> (rank, scale); patterns are written where they differ from the most common ones, those of a
            mixture's experts if there are any: PEFT stacks these, and no pattern finds them then.
        base_model: name or path of the backbone.
    """
    ranks = {module: rank for module, (rank, _) in facts.items()}
    alphas = {module: _whole(scale * rank) for module, (rank, scale) in facts.items()}
    leading = [module for module in facts if _in_stack(module)] or list(facts)
    rank, alpha = (Counter(values[module] for module in leading).most_common(1)[0][0] for values in (ranks, alphas))
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {_anchored(module): value for module, value in ranks.items() if value != rank},
        "alpha_pattern": {_anchored(module): value for module, value in alphas.items() if value != alpha},
        "target_modules": [module.removeprefix(PREFIX) for module in facts],
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
    }


def _refuse_unmergeable(config: Mapping[str, Any], name: str, allowed: Collection[str]) -> None:
    refused = {key: reason for key, reason in REFUSED.items() if key not in allowed}
    reasons = [f"{key}={shown(config[key])} ({reason})" for key, reason in refused.items() if config.get(key)]
    if (config.get("bias") or "none") != "none":
        reasons.append(f"bias={shown(config['bias'])} (biases of the backbone were trained)")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(CHANGES_BACKBONE):
        reasons.append(f"init_lora_weights={shown(start)} (the backbone was edited; save it converted to plain LoRA)")
    if reasons:
        advice = (
            ". Merged into its backbone (PEFT's merge_and_unload, save_pretrained) it is a full fine-tune, of which "
            "`esmerge extract` makes a plain LoRA and says what that does not hold"
        )
        is_a_fine_tune = not any(config.get(key) for key in NO_FINE_TUNE)
        raise AdapterError(
            f"adapter {name!r} is not plain LoRA and cannot be merged: {'; '.join(reasons)}{advice * is_a_fine_tune}"
        )


def _check_numbers(config: Mapping[str, Any], where: str) -> None:
    """Refuse ranks and alphas that are no such numbers, and patterns that are no regular expressions."""
    for key, pattern_key, check, expected in (
        ("r", "rank_pattern", _is_rank, "a whole number from 1"),
        ("lora_alpha", "alpha_pattern", _is_alpha, "a finite number other than 0"),
    ):
        patterns = config.get(pattern_key) or {}
        if not isinstance(patterns, dict):
            raise AdapterError(f"{where} has {pattern_key}={shown(patterns)}: expected an object, pattern: value")
        for name, value in {key: config[key], **patterns}.items():
            if not check(value):
                raise AdapterError(f"{where} says {shown(name)}: {shown(value)}, expected {expected}")
        for pattern in patterns:
            _check_pattern(pattern, f"{where} has {pattern_key} {shown(pattern)}")
    base = config.get("base_model_name_or_path")
    if base is not None and not isinstance(base, str):
        raise AdapterError(f"{where} says base_model_name_or_path: {shown(base)}, expected a name or a path")


def _check_pattern(pattern: str, where: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python, on expressions that it will read otherwise some day
            re.compile(rf"(.*\.)?({pattern})$")
    except (re.error, RecursionError, OverflowError) as error:
        raise AdapterError(f"{where}, which is no regular expression: {error}") from error


def _is_rank(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST_RANK


def _is_alpha(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < abs(value) <= LARGEST_ALPHA


def _matching(patterns: Mapping[str, float] | None, paths: Sequence[str], default: float) -> float:
    """PEFT's rule: the first pattern that matches the path's end at a dot, as a regular expression; path by path."""
    for path in paths:
        for pattern, value in (patterns or {}).items():
            if re.match(rf"(.*\.)?({pattern})$", path):
                return value
    return default


def _in_stack(module: str) -> bool:
    """Whether a module is one of several that stand in its decoder layer in a list."""
    return sum(part.isdigit() for part in module.split(".")) > 1


def _anchored(module: str) -> str:
    """A pattern that matches this module only: PEFT reads patterns as regular expressions on the path's end."""
    return "^" + re.escape(module.removeprefix(PREFIX))


def _whole(value: float) -> float | int:
    return int(value) if value == int(value) else value
