"""A safetensors file written tensor by tensor, so that one tensor is in memory at a time.

The format (https://github.com/huggingface/safetensors): eight bytes that give the length of the header, the header as
JSON, which may end in blanks, and the tensors' bytes. A header is written once all shapes are known; room for the
longest that the names allow is kept in front, so that no value is computed twice or written twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from esmerge.core.errors import AdapterError

FORMATS = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
WIDEST = 2**62  # stands for any offset and any width while room is kept
ALIGNED = 8


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a mapping, which may compute its tensors on demand; each is asked for once, in the mapping's order.

    Args:
        path: of the file, which must not be read before this returns.
        tensors: name -> matrix or vector of floating-point numbers, on any device.

    Raises:
        AdapterError: a tensor is of another number format or has more than two dimensions.
        OSError: the disk is full.
    """
    room = len(_header({name: _entry("BF16", [WIDEST, WIDEST], WIDEST, WIDEST) for name in tensors}))
    found, place = {}, 0
    with path.open("wb") as file:
        file.seek(ALIGNED + room)
        for name, tensor in tensors.items():
            size = _write(file, name, tensor)
            found[name] = _entry(FORMATS[tensor.dtype], list(tensor.shape), place, place + size)
            place += size
        file.seek(0)
        file.write(room.to_bytes(ALIGNED, "little"))
        file.write(_header(found).ljust(room))
        file.flush()
        os.fsync(file.fileno())


def _write(file: BinaryIO, name: str, tensor: Tensor) -> int:
    if tensor.dtype not in FORMATS or tensor.ndim > 2:
        raise AdapterError(f"{name} is {tuple(tensor.shape)} {tensor.dtype}: expected a matrix or vector of floats")
    raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return file.write(raw.data)


def _entry(kind: str, shape: list[int], start: int, stop: int) -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": [start, stop]}


def _header(entries: Mapping[str, Mapping[str, Any]]) -> bytes:
    """The header, padded so that tensors start at a multiple of eight bytes."""
    text = json.dumps({"__metadata__": {"format": "pt"}, **entries}, separators=(",", ":")).encode()
    return text.ljust(-(-len(text) // ALIGNED) * ALIGNED)
