"""The safetensors format (https://github.com/huggingface/safetensors), read and written without torch.

Eight bytes give the length of the header, little-endian; the header is JSON, name -> dtype, shape and offsets into the
rest, and may end in blanks; the rest are the tensors' bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from esmerge.core.errors import StoreError

ALIGNED = 8  # bytes: of the length, and what tensors start at a multiple of
METADATA = "__metadata__"


@dataclass(frozen=True, slots=True)
class TensorSpan:
    """The bytes of a file that hold a tensor.

    Attributes:
        dtype: safetensors' name of its number format, e.g. ``F32``.
        shape: its shape.
        start: its first byte, counted from the start of the file.
        stop: the byte after its last.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def header(spans: Mapping[str, TensorSpan], data: int) -> bytes:
    """The length and the header of a file whose tensors' bytes begin at byte ``data``.

    Raises:
        ValueError: the header is longer than that.
    """
    text = _text(spans, data)
    if ALIGNED + len(text) > data:
        raise ValueError(f"the header has {len(text)} bytes, but {data - ALIGNED} are kept for it")
    return (data - ALIGNED).to_bytes(ALIGNED, "little") + text.ljust(data - ALIGNED)


def data_start(spans: Mapping[str, TensorSpan]) -> int:
    """The first byte after a header that describes ``spans`` or any that take fewer digits."""
    length = len(_text(spans, 0))
    return ALIGNED + -(-length // ALIGNED) * ALIGNED


def read_spans(path: Path) -> dict[str, TensorSpan]:
    """Name -> span of every tensor, in the header's order; no tensor is read.

    Raises:
        StoreError: the file is no safetensors file, or a tensor's bytes do not lie within it.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(ALIGNED), "little")
        try:
            entries = json.loads(file.read(min(length, size)))
            entries.pop(METADATA, None)
            return {name: _span(name, entry, ALIGNED + length, size) for name, entry in entries.items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise StoreError(f"{path} is not a safetensors file ({error}): run again what wrote it") from error


def _span(name: str, entry: Mapping[str, list[int]], data: int, size: int) -> TensorSpan:
    """Where a tensor lies; ``ValueError`` where that is outside of a file of this many bytes."""
    start, stop = (data + offset for offset in entry["data_offsets"])
    shape = tuple(entry["shape"])
    if not all(isinstance(number, int) for number in (start, stop, *shape)) or min(shape, default=0) < 0:
        raise ValueError(f"the shape and offsets of {name[:80]!r} are not whole numbers from 0")
    if not data <= start <= stop <= size:
        raise ValueError(f"{name[:80]!r} lies outside of the file")
    return TensorSpan(str(entry["dtype"]), shape, start, stop)


def _text(spans: Mapping[str, TensorSpan], data: int) -> bytes:
    entries = {
        name: {"dtype": span.dtype, "shape": span.shape, "data_offsets": [span.start - data, span.stop - data]}
        for name, span in spans.items()
    }
    return json.dumps({METADATA: {"format": "pt"}, **entries}, separators=(",", ":")).encode()
