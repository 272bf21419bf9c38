"""The parts of a released specialist beside its language model, as ``esmerge unpack`` wrote them or in the release."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from esmerge.adapters.checkpoint import Checkpoint
from esmerge.adapters.export import INDEX, SINGLE
from esmerge.adapters.reader import TensorReader
from esmerge.core.errors import AdapterError, StoreError
from esmerge.core.json_lines import read_json_object
from esmerge.core.lazy import LazyMapping
from esmerge.storage.tensor_format import read_spans

PARTS = "parts"  # folder of one file for each part
MODEL_CONFIG = "config.json"


def part_file(part: str) -> str:
    """Name of the file that holds a part."""
    return f"{part}.safetensors"


def open_parts(folder: Path, prefixes: Mapping[str, str]) -> dict[str, LazyMapping[Tensor]]:
    """Part -> name within the part -> tensor, which is read each time it is asked for.

    Args:
        folder: that ``esmerge unpack`` wrote, or its ``parts``, or a release that is a Hugging Face folder.
        prefixes: part -> what its tensors' names begin with in the release.

    Raises:
        AdapterError: the folder holds neither, or a part is missing or cannot be read.
    """
    if (folder / SINGLE).is_file() or (folder / INDEX).is_file():
        checkpoints = {part: Checkpoint(folder, prefix) for part, prefix in prefixes.items()}
        return {part: LazyMapping(checkpoint.stored, checkpoint.read) for part, checkpoint in checkpoints.items()}
    inside = folder / PARTS if (folder / PARTS).is_dir() else folder
    missing = [part_file(part) for part in prefixes if not (inside / part_file(part)).is_file()]
    if missing:
        raise AdapterError(
            f"{inside} lacks {', '.join(missing)}: expected the folder that esmerge unpack wrote, or a Hugging Face "
            f"folder of the whole release with {SINGLE} or {INDEX}"
        )
    return {part: _open(inside / part_file(part)) for part in prefixes}


def release_config(folder: Path) -> dict[str, Any] | None:
    """The release's model config, which ``esmerge unpack`` leaves beside the parts; None where it had none.

    Raises:
        InputError: the file is no JSON object.
    """
    candidates = (folder / PARTS / MODEL_CONFIG, folder / MODEL_CONFIG)
    path = next((path for path in candidates if path.is_file()), None)
    return None if path is None else read_json_object(path)


def _open(path: Path) -> LazyMapping[Tensor]:
    try:
        names = read_spans(path)
    except StoreError as error:
        raise AdapterError(str(error)) from error
    reader = TensorReader(path)
    return LazyMapping(names, lambda name: reader.read(name)[0])
