"""What a fine-tune computes otherwise than its backbone, whatever the weights: the two config.json held together."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

from esmerge.adapters.export import CONFIG
from esmerge.core.errors import AdapterError, InputError, shown
from esmerge.core.json_lines import read_json_object

Settings = Mapping[str, Any]  # of a config.json, or of a part of it

# Settings that change no output of a model whose tensors are the same.
IDLE = (
    *("_name_or_path", "name_or_path", "transformers_version", "unsloth_version", "unsloth_fixed"),
    *("architectures", "auto_map", "dtype", "torch_dtype", "use_cache", "cache_implementation"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id"),
    *("id2label", "label2id", "num_labels", "problem_type"),
    *("output_attentions", "output_hidden_states", "output_router_logits", "return_dict"),
    *("initializer_range", "initializer_factor", "router_aux_loss_coef", "pretraining_tp"),
    "vocab_size",  # a shape of tensors, which are compared
)
OF_TRAINING = ("dropout", "pdrop", "dropout_prob", "layerdrop")  # what the names of such settings end with
LIMIT = "max_position_embeddings"  # a limit only, or the shape of a tensor, but for these rotary frequencies
STRETCHED_BY_LIMIT = ("dynamic", "yarn", "longrope")


def differing_settings(base: Settings, tuned: Settings) -> dict[str, str]:
    """Setting -> how the fine-tune's is another, of the settings that say what is computed; in the backbone's order.

    Args:
        base: the backbone's, nested as in a config.json; a setting inside another is named ``outer.inner``.
        tuned: the fine-tune's. None and an absent setting are the same.
    """
    before, after = dict(_flat(base)), dict(_flat(tuned))
    limit_counts = _stretched_by_limit(before) or _stretched_by_limit(after)
    return {
        name: f"{_value(after.get(name))} in place of {_value(before.get(name))}"
        for name in [*before, *(name for name in after if name not in before)]
        if before.get(name) != after.get(name) and (limit_counts or name.rpartition(".")[2] != LIMIT)
    }


def compare_configs(backbone: PretrainedConfig, folder: Path, tuned_folder: Path, part: str = "") -> dict[str, str]:
    """What the config of a fine-tune says otherwise, where in it -> what; see ``differing_settings``.

    Both are read as the backbone's architecture reads them, so that a default and its absence are the same, and no
    code of the fine-tune's own is run.

    Args:
        backbone: the backbone's config.
        folder: of the backbone.
        tuned_folder: of the fine-tune.
        part: as in ``Extraction``; where it is not empty, the language model is every model of the backbone's type
            that the fine-tune's config describes.

    Raises:
        AdapterError: a config is no JSON object.
    """
    if not (tuned_folder / CONFIG).is_file():
        return {CONFIG: "absent"}
    whole = _read(tuned_folder)
    described = dict(_of_type(whole, backbone.model_type)) if part else {"": whole}
    if not described:
        return {CONFIG: f"says of no {backbone.model_type} how it computes"}
    return {
        f"{CONFIG}: {inside}{name}": remark
        for inside, settings in described.items()
        for name, remark in differing_settings(*_alike(backbone, folder, settings)).items()
    }


def _flat(settings: Settings, outer: str = "") -> Iterator[tuple[str, Any]]:
    """Path and value of every setting that may say what is computed."""
    for key, value in ((str(key), value) for key, value in settings.items()):
        if key in IDLE or key.endswith(OF_TRAINING) or value is None:
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{outer}{key}.")
        elif key != "type" or "rope_type" not in settings:  # the older name of rope_type
            yield f"{outer}{key}", value


def _stretched_by_limit(flat: Settings) -> bool:
    """Whether rotary frequencies are computed from the longest context."""
    kinds = (value for name, value in flat.items() if name.endswith(("rope_type", "rope_scaling.type")))
    return any(kind in STRETCHED_BY_LIMIT for kind in kinds)


def _value(value: object) -> str:
    return "nothing" if value is None else shown(value)


def _of_type(settings: Settings, model_type: str, inside: str = "") -> Iterator[tuple[str, Settings]]:
    """Where in a config, and what it says, of every model of this type."""
    if settings.get("model_type") == model_type:
        yield inside, settings
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _of_type(value, model_type, f"{inside}{key}.")


def _alike(backbone: PretrainedConfig, folder: Path, tuned: Settings) -> tuple[Settings, Settings]:
    """Backbone's and fine-tune's settings with all defaults, or both as they are written if the second do not load."""
    try:
        loaded = type(backbone).from_dict(copy.deepcopy(dict(tuned))).to_dict()
    except Exception:  # whatever another architecture's settings, or a config class of the backbone's own, may raise
        return _read(folder), tuned
    return backbone.to_dict(), {**loaded, "model_type": tuned.get("model_type", backbone.model_type)}


def _read(folder: Path) -> dict[str, Any]:
    try:
        return read_json_object(folder / CONFIG)
    except InputError as error:
        raise AdapterError(f"{error}: copy or download it again") from error
