"""A PEFT folder's ``adapter_config.json``: what is refused, each module's rank and scale, and what is written."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from esmerge.adapters.lora import PREFIX
from esmerge.adapters.peft_files import CONFIG
from esmerge.core.errors import AdapterError, InputError
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
CHANGES_BACKBONE = ("pissa", "olora", "corda", "loftq", "lora_ga")  # init_lora_weights that edit the backbone


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """The config of adapter ``name``.

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
    if config.get("peft_type") != "LORA":
        raise AdapterError(f"adapter {name!r} is of type {config.get('peft_type')!r}: only LORA adapters can be merged")
    absent = [key for key in ("r", "lora_alpha") if config.get(key) is None]
    if absent:
        raise AdapterError(f"adapter {name!r}: {path} does not say {' and '.join(absent)}, so its scale is unknown")
    _refuse_unmergeable(config, name)
    return config


def rank_and_scale(config: Mapping[str, Any], module: str) -> tuple[int, float]:
    """A module's rank, and its scale alpha / rank (alpha / sqrt(rank) for rsLoRA), patterns observed."""
    path = module.removeprefix(PREFIX)
    rank = int(_matching(config.get("rank_pattern"), path, config["r"]))
    alpha = float(_matching(config.get("alpha_pattern"), path, config["lora_alpha"]))
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


def _refuse_unmergeable(config: Mapping[str, Any], name: str) -> None:
    reasons = [f"{key}={config[key]!r} ({why})" for key, why in REFUSED.items() if config.get(key)]
    if config.get("bias", "none") != "none":
        reasons.append(f"bias={config['bias']!r} (biases of the backbone were trained)")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(CHANGES_BACKBONE):
        reasons.append(f"init_lora_weights={start!r} (the backbone was edited; save it converted to plain LoRA)")
    if reasons:
        raise AdapterError(f"adapter {name!r} is not plain LoRA and cannot be merged: {'; '.join(reasons)}")


def _matching(patterns: Mapping[str, float] | None, path: str, default: float) -> float:
    """PEFT's rule: the first pattern that matches the path's end at a dot, as a regular expression."""
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
