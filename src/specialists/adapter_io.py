"""LoRA adapters on disk, as PEFT folders: ``adapter_config.json``, ``adapter_model.safetensors`` and a model card."""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from src.errors import AdapterError
from src.specialists.lora import LoraFactors, LoraState, check_finite

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."  # PEFT's name of the wrapped backbone; patterns in its configs leave it out

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)

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


def load_adapter(folder: str | Path, name: str) -> LoraState:
    """Read a PEFT LoRA adapter.

    Args:
        folder: a folder that PEFT's ``save_pretrained`` wrote.
        name: what the adapter is called in error messages.

    Raises:
        AdapterError: a file is missing or not safetensors, the adapter is not plain LoRA, or its tensors do not fit its
            config.
    """
    folder = Path(folder)
    config = _read_config(folder, name)
    _refuse_unmergeable(config, name)
    pairs = _pair(_read_tensors(folder, name), name)
    modules = {module: _factors(module, pairs[module], config, name) for module in sorted(pairs, key=_natural)}
    state = LoraState(modules, config.get("base_model_name_or_path"))
    check_finite(state, name)
    return state


def save_adapter(state: LoraState, folder: str | Path, base_model: str | None = None, card: str | None = None) -> None:
    """Write an adapter as a PEFT folder, all of it or nothing; an existing folder is replaced.

    Args:
        state: factors of any ranks and scales.
        folder: where to.
        base_model: name or path of the backbone; the state's own by default.
        card: text of the model card below its title.

    Raises:
        AdapterError: a module name is not PEFT's, or a value is NaN or infinite.
    """
    folder = Path(folder)
    check_finite(state, folder.name)
    foreign = [module for module in state.modules if not module.startswith(PREFIX)]
    if foreign or not state.modules:
        raise AdapterError(f"modules to be saved must be named {PREFIX}<path>, got {', '.join(foreign) or 'none'}")
    base_model = base_model if base_model is not None else state.base_model
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.parent / f".{folder.name}.{uuid.uuid4().hex}.partial"
    partial.mkdir()
    try:
        (partial / CONFIG).write_text(json.dumps(_config(state, base_model), indent=2) + "\n", encoding="utf-8")
        tensors = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in state.tensors().items()}
        save_file(tensors, partial / WEIGHTS, metadata={"format": "pt"})
        (partial / "README.md").write_text(_card(state, folder.name, base_model, card), encoding="utf-8")
        _replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _read_config(folder: Path, name: str) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise AdapterError(f"adapter {name!r}: {path} does not exist; expected a folder written by PEFT")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise AdapterError(f"adapter {name!r}: {path} is not valid JSON ({error})") from error
    if config.get("peft_type") != "LORA":
        raise AdapterError(f"adapter {name!r} is of type {config.get('peft_type')!r}: only LORA adapters can be merged")
    absent = [key for key in ("r", "lora_alpha") if config.get(key) is None]
    if absent:
        raise AdapterError(f"adapter {name!r}: {path} does not say {' and '.join(absent)}, so its scale is unknown")
    return config


def _refuse_unmergeable(config: Mapping[str, Any], name: str) -> None:
    reasons = [f"{key}={config[key]!r} ({why})" for key, why in REFUSED.items() if config.get(key)]
    if config.get("bias", "none") != "none":
        reasons.append(f"bias={config['bias']!r} (biases of the backbone were trained)")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(CHANGES_BACKBONE):
        reasons.append(f"init_lora_weights={start!r} (the backbone was edited; save it converted to plain LoRA)")
    if reasons:
        raise AdapterError(f"adapter {name!r} is not plain LoRA and cannot be merged: {'; '.join(reasons)}")


def _read_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    if not path.is_file():
        pickles = sorted(file.name for file in folder.glob("*.bin"))
        hint = f"; {', '.join(pickles)} is a pickle, save it again with safe_serialization=True" if pickles else ""
        raise AdapterError(f"adapter {name!r}: {path} does not exist{hint}")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"adapter {name!r}: {path} cannot be read as safetensors ({error})") from error


def _pair(tensors: Mapping[str, Tensor], name: str) -> dict[str, dict[str, Tensor]]:
    pairs: dict[str, dict[str, Tensor]] = {}
    unknown = []
    for key, tensor in tensors.items():
        match = re.fullmatch(r"(.+)\.lora_([AB])\.weight", key)
        if match is None or tensor.ndim != 2 or tensor.dtype not in DTYPES or not key.startswith(PREFIX):
            unknown.append(f"{key} {tuple(tensor.shape)} {tensor.dtype}")
        else:
            pairs.setdefault(match[1], {})[match[2]] = tensor
    if unknown:
        raise AdapterError(f"adapter {name!r} holds tensors that are not LoRA factors: {', '.join(unknown)}")
    halves = [f"{module}.lora_{factor}" for module, pair in pairs.items() for factor in "AB" if factor not in pair]
    if halves or not pairs:
        raise AdapterError(
            f"adapter {name!r} lacks LoRA factors: {', '.join(sorted(halves)) or 'it holds none at all'}"
        )
    return pairs


def _factors(module: str, pair: Mapping[str, Tensor], config: Mapping[str, Any], name: str) -> LoraFactors:
    path = module.removeprefix(PREFIX)
    rank = int(_matching(config.get("rank_pattern"), path, config["r"]))
    alpha = float(_matching(config.get("alpha_pattern"), path, config["lora_alpha"]))
    a, b = pair["A"], pair["B"]
    if a.shape[0] != rank or b.shape[1] != rank:
        raise AdapterError(
            f"adapter {name!r}: {module} has A {tuple(a.shape)} and B {tuple(b.shape)}, but its config says rank {rank}"
        )
    return LoraFactors(a, b, alpha / rank**0.5 if config.get("use_rslora") else alpha / rank)


def _matching(patterns: Mapping[str, float] | None, path: str, default: float) -> float:
    """PEFT's rule: the first pattern that matches the path's end at a dot, as a regular expression."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", path):
            return value
    return default


def _config(state: LoraState, base_model: str | None) -> dict[str, Any]:
    ranks = {module: factors.rank for module, factors in state.modules.items()}
    alphas = {module: _whole(factors.scale * factors.rank) for module, factors in state.modules.items()}
    rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {_anchored(module): value for module, value in ranks.items() if value != rank},
        "alpha_pattern": {_anchored(module): value for module, value in alphas.items() if value != alpha},
        "target_modules": [module.removeprefix(PREFIX) for module in state.modules],
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
    }


def _anchored(module: str) -> str:
    """A pattern that matches this module only: PEFT reads patterns as regular expressions on the path's end."""
    return "^" + re.escape(module.removeprefix(PREFIX))


def _whole(value: float) -> float | int:
    return int(value) if value == int(value) else value


def _card(state: LoraState, title: str, base_model: str | None, card: str | None) -> str:
    head = ["---", "library_name: peft", "tags:", "- lora"]
    if base_model is not None:
        head.append(f"base_model: {json.dumps(base_model)}")
    notes = [f"- {key}: {value}" for key, value in state.notes.items()]
    body = [f"# {title}", card or "A LoRA adapter; load it with `peft.PeftModel.from_pretrained`.", "\n".join(notes)]
    return "\n".join([*head, "---", ""]) + "\n" + "\n\n".join(part for part in body if part) + "\n"


def _replace(partial: Path, folder: Path) -> None:
    """Put a finished folder in place; a rename cannot replace a folder that holds files, so the old one steps aside."""
    if not folder.exists():
        partial.rename(folder)
        return
    aside = folder.parent / f".{folder.name}.{uuid.uuid4().hex}.old"
    folder.rename(aside)
    try:
        partial.rename(folder)
    except OSError:
        aside.rename(folder)
        raise
    shutil.rmtree(aside)


def _natural(module: str) -> tuple[tuple[int, int | str], ...]:
    """Sorts layer 2 before layer 10, as the backbone does."""
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in module.split("."))
