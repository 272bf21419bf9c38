"""A merge as a model of its own: a Hugging Face folder whose weights are the backbone's plus the merged update.

Shards are read and written one after the other and updates are computed one module at a time, so that about one shard
is in memory, whatever the size of the model.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from esmerge.adapters.card import card_text
from esmerge.adapters.dense import FLOATS, DenseState, Update, added
from esmerge.adapters.lora import PREFIX
from esmerge.core.errors import AdapterError, InputError
from esmerge.core.finite import all_finite
from esmerge.core.json_lines import read_json_object
from esmerge.storage.whole_folder import whole_folder

CONFIG, SINGLE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PLAIN = ("F64", "F32", "F16", "BF16")  # safetensors' names of what is not quantised
TRANSPOSED = ("gpt2", "openai-gpt", "imagegpt")  # architectures that store linear weights as (in, out)
WEIGHTS = (".safetensors", ".index.json", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx")
LEFT_OUT = ("README.md", "adapter_config.json")  # the card is another one; an adapter would be loaded on top

Shards = Mapping[str, Mapping[str, str]]
"""File name -> tensor name -> safetensors' name of its number format."""


@dataclass(frozen=True)
class Placement:
    """Where a module's weight, (out_features, in_features), stands in a checkpoint.

    Attributes:
        tensor: the tensor's name.
        index: of a stack of weights, which one; None if the tensor is no stack.
        rows: first and last (exclusive) output feature, where several layers are one matrix; None for all.
        transposed: whether the matrix is stored as (in_features, out_features).
    """

    tensor: str
    index: int | None = None
    rows: tuple[int, int] | None = None
    transposed: bool = False

    def part(self, tensor: Tensor) -> Tensor:
        """The module's weight as a view of the tensor."""
        matrix = tensor if self.index is None else tensor[self.index]
        matrix = matrix if self.rows is None else matrix[slice(*self.rows)]
        return matrix.T if self.transposed else matrix


Placements = Mapping[str, Placement]
"""Module name -> where its weight stands."""


def bake(
    backbone_folder: str | Path,
    update: Update,
    out_folder: str | Path,
    dtype: torch.dtype | None = None,
    placements: Placements | None = None,
) -> None:
    """Write the backbone with the update added to its weights, all of it or nothing.

    Args:
        backbone_folder: a Hugging Face folder with ``model.safetensors``, or with shards and their index.
        update: an adapter or dense updates.
        out_folder: where to; it must be new or empty.
        dtype: of all weights; by default each keeps the backbone's. Sums are in float32 either way.
        placements: of the update's modules; by default module ``base_model.model.<path>`` is tensor ``<path>.weight``.

    Raises:
        AdapterError: a file is missing or is not safetensors, a module has no weight in the checkpoint or one of
            another shape, a weight is quantised, a sum is not finite, or the out folder holds files.
    """
    source, out = Path(backbone_folder), Path(out_folder)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise AdapterError(f"{out} exists and is not an empty folder: bake into a new one")
    config, shards = _read_config(source, placed=placements is not None), read_shards(source)
    modules = _modules_by_tensor(update, placements, shards, source)
    with whole_folder(out) as partial:
        _copy_rest(source, partial)
        _write_weights(source, partial, shards, update, modules, dtype)
        config_text = json.dumps(config if dtype is None else _with_dtype(config, dtype), indent=2)
        (partial / CONFIG).write_text(config_text + "\n", encoding="utf-8")
        base = update.base_model or str(source)
        text = f"The weights of `{base}` plus a merged update; load it as any transformers model."
        card = card_text(out.name, "transformers", ["merge"], base, text, update.notes)
        (partial / "README.md").write_text(card, encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise AdapterError(f"{path} does not exist: expected the Hugging Face folder of the backbone")
    try:
        return read_json_object(path)
    except InputError as error:
        raise AdapterError(f"{error}: copy the backbone again") from error


def checkpoint_tensors(folder: str | Path) -> list[str]:
    """Names of the tensors that a Hugging Face folder holds; for errors see ``bake``."""
    return [name for tensors in read_shards(Path(folder)).values() for name in tensors]


def _read_config(source: Path, placed: bool) -> dict[str, Any]:
    config = _read_json(source / CONFIG)
    if config.get("quantization_config"):
        method = config["quantization_config"].get("quant_method", "an unnamed method")
        raise AdapterError(f"{source} is quantised ({method}): an update can be added to plain weights only")
    if config.get("model_type") in TRANSPOSED and not placed:
        raise AdapterError(
            f"{source} is a {config['model_type']}, which stores its weights transposed: give placements"
        )
    return config


def read_shards(source: Path) -> Shards:
    """What each weight file of a Hugging Face folder holds, from its header; transformers prefers a single file too.

    Raises:
        AdapterError: a file is missing or is not safetensors.
    """
    if (source / SINGLE).is_file():
        return {SINGLE: _read_header(source / SINGLE)}
    if not (source / INDEX).is_file():
        pickles = sorted(file.name for file in source.glob("*.bin"))
        hint = f"; {', '.join(pickles)} is a pickle, save it again with safe_serialization=True" if pickles else ""
        raise AdapterError(f"{source} holds neither {SINGLE} nor {INDEX}{hint}")
    weight_map: dict[str, str] = _read_json(source / INDEX).get("weight_map", {})
    files = list(dict.fromkeys(weight_map.values()))
    absent = [file for file in files if Path(file).name != file or not (source / file).is_file()]
    if absent or not weight_map:
        raise AdapterError(f"{source} lacks the shards {', '.join(absent) or '(none is listed)'} of its {INDEX}")
    shards = {file: _read_header(source / file) for file in files}
    lost = [name for name, file in weight_map.items() if name not in shards[file]]
    if lost:
        raise AdapterError(f"{source}: the shards lack {', '.join(lost)}, which {INDEX} lists; copy the backbone again")
    return shards


def _read_header(file: Path) -> dict[str, str]:
    try:
        with safe_open(file, framework="pt") as tensors:
            return {name: tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{file} cannot be read as safetensors ({error}): copy the backbone again") from error


Placed = Mapping[str, Mapping[str, Placement]]
"""Tensor name -> the modules whose updates it gets -> where in it each stands."""


def _modules_by_tensor(update: Update, placements: Placements | None, shards: Shards, source: Path) -> Placed:
    """Every module has its tensor, and none is quantised."""
    formats = {name: kind for tensors in shards.values() for name, kind in tensors.items()}
    plain = {module: Placement(f"{module.removeprefix(PREFIX)}.weight") for module in update.modules}
    located = plain if placements is None else placements
    unknown = [m for m in update.modules if m not in located or located[m].tensor not in formats]
    unknown += [module for module in update.modules if not module.startswith(PREFIX)]
    if unknown:
        raise AdapterError(f"{source} has no weights for {', '.join(unknown)}: is the update of another backbone?")
    placed: dict[str, dict[str, Placement]] = {}
    for module in update.modules:
        placed.setdefault(located[module].tensor, {})[module] = located[module]
    quantised = [f"{name} ({formats[name]})" for name in placed if formats[name] not in PLAIN]
    if quantised:
        raise AdapterError(f"{source} holds quantised weights, {', '.join(quantised)}: save it dequantised")
    return placed


def _write_weights(
    source: Path, out: Path, shards: Shards, update: Update, placed: Placed, dtype: torch.dtype | None
) -> None:
    size = 0
    for file, names in shards.items():
        with safe_open(source / file, framework="pt") as stored:
            facts = {"format": "pt", **(stored.metadata() or {})}
            tensors = {
                name: _baked(name, stored.get_tensor(name), update, placed.get(name, {}), dtype) for name in names
            }
            save_file(tensors, out / file, metadata=facts)
        size += sum(tensor.nbytes for tensor in tensors.values())
        del tensors  # before the next shard is read
    if SINGLE not in shards:
        index = _read_json(source / INDEX)
        index["metadata"] = {**index.get("metadata", {}), "total_size": size}
        (out / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _baked(
    name: str, weight: Tensor, update: Update, modules: Mapping[str, Placement], dtype: torch.dtype | None
) -> Tensor:
    """A tensor of the checkpoint as it is written: in another number format, and with its modules' updates if any."""
    if not modules and (dtype in (None, weight.dtype) or weight.dtype not in FLOATS):
        return weight
    total = weight.to(dtype or weight.dtype, copy=True)
    for module, placement in modules.items():
        part = placement.part(weight)
        placement.part(total).copy_(added(module, part, _delta(update, module), dtype))
    if not all_finite(total):
        raise AdapterError(f"{name} is not finite in {total.dtype}: bake in a wider dtype, or look at the update")
    return total.contiguous()


def _delta(update: Update, module: str) -> Tensor:
    if isinstance(update, DenseState):
        return update.modules[module]
    factors = update.modules[module]
    wide = torch.promote_types(torch.promote_types(factors.a.dtype, factors.b.dtype), torch.float32)
    return factors.scale * (factors.b.to(wide) @ factors.a.to(wide))


def _copy_rest(source: Path, out: Path) -> None:
    """Everything that is neither weights nor hidden: generation config, tokenizer, chat templates, code, licence."""
    for file in _plain_files(source.iterdir()):
        shutil.copyfile(file, out / file.name)
    for file in _plain_files(source.glob("additional_chat_templates/*")):
        (out / file.parent.name).mkdir(exist_ok=True)
        shutil.copyfile(file, out / file.parent.name / file.name)


def _plain_files(paths: Iterable[Path]) -> list[Path]:
    return [
        path
        for path in paths
        if path.is_file() and not path.name.startswith(".") and not path.name.endswith(WEIGHTS + LEFT_OUT)
    ]


def _with_dtype(config: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """The config and its sub-configs saying that the weights are of ``dtype``."""
    name, keys = str(dtype).removeprefix("torch."), ("dtype", "torch_dtype")
    return {
        key: name if key in keys else _with_dtype(value, dtype) if isinstance(value, dict) else value
        for key, value in config.items()
    }
