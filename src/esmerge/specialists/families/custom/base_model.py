"""Whether the model that an adapter was trained on is the user's backbone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from esmerge.core.errors import InputError
from esmerge.core.json_lines import read_json_object

COMPARED = 32  # tensors of two checkpoints
ROWS = 64  # at most, of each of them
ROUNDING = 2.0**-7  # relative, of a bfloat16 copy


def is_base_model(recorded: str, backbone: str) -> bool:
    """Whether a backbone may be the model that an adapter records as its own.

    A sample of weights decides where both are folders here. Elsewhere names do: equal but for folders, owners, letter
    case and the hub's cache layout.

    Args:
        recorded: ``base_model_name_or_path`` of the adapter's config.
        backbone: folder or hub id.
    """
    same = same_weights(Path(recorded), Path(backbone))
    return any(_plain(recorded) == _plain(name) for name in _names_of(backbone)) if same is None else same


def same_weights(first: Path, second: Path) -> bool | None:
    """Whether two folders hold the same weights but for the rounding of a copy.

    Returns:
        None where that cannot be told: one of them is no folder, or they have no safetensors of one name.
    """
    if not (first.is_dir() and second.is_dir()):
        return None
    files, others = _files_of_tensors(first), _files_of_tensors(second)
    sample = sorted(files.keys() & others.keys(), key=_scattered)[:COMPARED]
    return all(_equal(_rows(files[name], name), _rows(others[name], name)) for name in sample) if sample else None


def _scattered(name: str) -> str:
    """Sorts tensors so that the first ones are of many kinds and depths, whatever the number of layers."""
    return hashlib.sha256(name.encode()).hexdigest()


def _names_of(name: str) -> set[str]:
    """What the backbone may be called: its path or id, and the name that its own config gives."""
    path = Path(name) / "config.json"
    if not path.is_file():
        return {name}
    try:
        recorded = read_json_object(path).get("_name_or_path")
    except InputError:
        recorded = None
    return {name, *([recorded] if recorded else [])}


def _plain(name: str) -> str:
    for part in reversed(Path(name).parts):
        if part.startswith("models--"):
            return part.rpartition("--")[2].lower()
    return Path(os.path.abspath(name) if Path(name).exists() else name).name.lower()


def _files_of_tensors(folder: Path) -> dict[str, Path]:
    return {name: path for path in sorted(folder.glob("*.safetensors")) for name in _names(path)}


def _names(path: Path) -> Iterator[str]:
    try:
        with safe_open(path, "pt") as tensors:
            yield from tensors.keys()
    except (OSError, SafetensorError):
        return  # whoever loads it says so


def _rows(path: Path, name: str) -> Tensor:
    with safe_open(path, "pt") as tensors:
        part = tensors.get_slice(name)
        rows: Tensor = part[:ROWS] if part.get_shape() else tensors.get_tensor(name)
        return rows


def _equal(first: Tensor, second: Tensor) -> bool:
    if first.dtype == second.dtype or first.shape != second.shape:
        return torch.equal(first.float(), second.float())
    return torch.allclose(first.float(), second.float(), rtol=ROUNDING, atol=1e-6)
