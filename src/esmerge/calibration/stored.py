"""What a measure found, on disk as safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from esmerge.calibration.types import Statistics
from esmerge.core.errors import NumberError
from esmerge.core.finite import all_finite, number_format
from esmerge.core.lazy import LazyMapping
from esmerge.storage.tensor_arrays import TensorArrays
from esmerge.storage.tensor_stream import TensorFile

FILE = "measured.safetensors"
BETWEEN = "|"  # expert and tensor name
DIMENSIONS = 4  # of a tensor, at most
WHOLE = 1 << 29  # bytes of a file that is read at once


def save_statistics(measured: Statistics, folder: Path) -> None:
    """Write to ``<folder>/measured.safetensors``, one tensor after the other; those that share memory apart.

    Raises:
        NumberError: a statistic is NaN or infinite; nothing is written.
    """
    names = {f"{expert}{BETWEEN}{name}": (expert, name) for expert, tensors in measured.items() for name in tensors}
    broken: dict[str, torch.dtype] = {}
    with TensorFile(folder / FILE, names, DIMENSIONS) as file:
        for key, (expert, name) in names.items():
            tensor = measured[expert][name]
            file.append(key, tensor)
            if not all_finite(tensor):
                broken[key] = tensor.dtype
    if broken:
        (folder / FILE).unlink()
        key, dtype = next(iter(broken.items()))
        expert, name = names[key]
        raise NumberError(
            f"{name} of {expert} ({len(broken)} of {len(names)} tensors) is NaN or infinite in "
            f"{number_format(dtype)}: measure in a wider number format (bfloat16 or float32)"
        )


def load_statistics(folder: Path, whole: int = WHOLE) -> Statistics:
    """Read what ``save_statistics`` wrote.

    Args:
        whole: bytes up to which a file is held in memory; of a larger one each tensor is read when it is looked up.
    """
    path = folder / FILE
    large = path.stat().st_size > whole
    arrays = TensorArrays(path) if large else load_file(path)
    keys: dict[str, dict[str, str]] = {}
    for key in arrays:
        expert, _, name = key.partition(BETWEEN)
        keys.setdefault(expert, {})[name] = key

    def read(key: str) -> Tensor:
        values = arrays[key]
        return values if isinstance(values, Tensor) else torch.from_numpy(values)

    def tensors(by_name: dict[str, str]) -> Mapping[str, Tensor]:
        lazy = LazyMapping(by_name, lambda name: read(by_name[name]))
        return lazy if large else dict(lazy)

    return {expert: tensors(by_name) for expert, by_name in keys.items()}
