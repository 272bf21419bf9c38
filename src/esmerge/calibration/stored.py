"""What a measure found, on disk as safetensors."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from esmerge.calibration.types import Statistics
from esmerge.core.errors import NumberError
from esmerge.core.finite import all_finite, number_format

FILE = "measured.safetensors"
BETWEEN = "|"  # expert and tensor name


def save_statistics(measured: Statistics, folder: Path) -> None:
    """Write to ``<folder>/measured.safetensors``; tensors that share memory are written apart.

    Raises:
        NumberError: a statistic is NaN or infinite; nothing is written.
    """
    flat = {f"{expert}{BETWEEN}{name}": t for expert, tensors in measured.items() for name, t in tensors.items()}
    broken = [key for key, tensor in flat.items() if not all_finite(tensor)]
    if broken:
        expert, _, name = broken[0].partition(BETWEEN)
        raise NumberError(
            f"{name} of {expert} ({len(broken)} of {len(flat)} tensors) is NaN or infinite in "
            f"{number_format(flat[broken[0]].dtype)}: measure in a wider number format (bfloat16 or float32)"
        )
    save_file({key: tensor.detach().cpu().contiguous().clone() for key, tensor in flat.items()}, folder / FILE)


def load_statistics(folder: Path) -> Statistics:
    """Read what ``save_statistics`` wrote."""
    measured: dict[str, dict[str, Tensor]] = {}
    for key, tensor in load_file(folder / FILE).items():
        expert, _, name = key.partition(BETWEEN)
        measured.setdefault(expert, {})[name] = tensor
    return measured
