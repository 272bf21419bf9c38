"""Where a PEFT folder keeps an adapter: in itself or one folder deeper, in one weight file or in shards."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open

from esmerge.core.errors import AdapterError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
INDEX = WEIGHTS + ".index.json"
OF_TRAINERS = re.compile(r"adapter_model|training_args|optimizer|scheduler|rng_state|scaler|pytorch_model_fsdp")
SHARD = re.compile(r"adapter_model-(\d+)-of-(\d+)\.safetensors")

Stored = tuple[tuple[int, ...], str]
"""Shape of a tensor and safetensors' name of its number format."""


def adapter_folder(folder: str | Path, name: str) -> Path:
    """The folder itself, or the one below it that holds the adapter.

    PEFT saves every adapter that is not called ``default`` into a subfolder of that name; trainers save checkpoints so.
    The one that is called as the expert is is taken, else the folder's own, else the only one below.

    Raises:
        AdapterError: there is no adapter, or there are several and none is called so; the message lists them.
    """
    folder = Path(folder).expanduser()
    if (folder / name / CONFIG).is_file():
        return folder / name
    if (folder / CONFIG).is_file() or not folder.is_dir():
        return folder
    below = sorted(path.parent for path in folder.glob(f"*/{CONFIG}"))
    if len(below) > 1:
        names = ", ".join(path.name for path in below)
        raise AdapterError(
            f"adapter {name!r}: {folder} holds several adapters, {names}: give the folder of one, such as {below[0]}"
        )
    return (below or [folder])[0]


def files_beside(folder: Path, used: Collection[Path]) -> list[str]:
    """Names of other weights in an adapter's folder: what a trainer saved beside the adapter and a merge leaves out."""
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix in (".bin", ".pt", ".pth", ".safetensors")
        and path not in used
        and not OF_TRAINERS.match(path.name)
    )


def weight_files(folder: Path, name: str) -> list[Path]:
    """The one weight file of an adapter, or its shards in order.

    Raises:
        AdapterError: there are none, only a pickle, or not all shards.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    shards = sorted(path for path in folder.glob("adapter_model-*.safetensors") if SHARD.fullmatch(path.name))
    expected = _indexed(folder / INDEX, name) or _counted(shards)
    if not expected:
        pickles = sorted(file.name for file in folder.glob("*.bin"))
        remedy = "load it with PEFT where you trust it, then save_pretrained(FOLDER, safe_serialization=True)"
        hint = f"; {', '.join(pickles)} is a pickle, which may run code and is not read: {remedy}" if pickles else ""
        raise AdapterError(f"adapter {name!r}: {folder / WEIGHTS} does not exist{hint}")
    absent = [file for file in expected if Path(file).name != file or not (folder / file).is_file()]
    if absent:
        raise AdapterError(f"adapter {name!r}: {folder} lacks the shards {', '.join(absent)}: copy the folder again")
    return [folder / file for file in expected]


def read_headers(files: list[Path], name: str) -> dict[str, tuple[Path, Stored]]:
    """Tensor name -> the file that holds it, its shape and number format.

    Raises:
        AdapterError: a file is not safetensors, or two files hold a tensor of one name.
    """
    headers: dict[str, tuple[Path, Stored]] = {}
    for path in files:
        for key, stored in _read_header(path, name).items():
            if key in headers:
                raise AdapterError(f"adapter {name!r}: {key} stands in {headers[key][0].name} and in {path.name}")
            headers[key] = path, stored
    return headers


def _indexed(index: Path, name: str) -> list[str]:
    """The files that an index lists; none if there is no index."""
    if not index.is_file():
        return []
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return sorted({str(file) for file in weight_map.values()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AdapterError(f"adapter {name!r}: {index} is no index of shards ({error!r}): copy it again") from error


def _counted(shards: list[Path]) -> list[str]:
    """The files that the shards' own names count up to."""
    matches = [match for path in shards if (match := SHARD.fullmatch(path.name))]
    if not matches:
        return []
    width, total = len(matches[0][1]), matches[0][2]
    return [f"adapter_model-{number:0{width}d}-of-{total}.safetensors" for number in range(1, int(total) + 1)]


def _read_header(path: Path, name: str) -> Mapping[str, Stored]:
    try:
        with safe_open(path, framework="pt") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
            return {
                key: (tuple(tensor_slice.get_shape()), tensor_slice.get_dtype()) for key, tensor_slice in slices.items()
            }
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"adapter {name!r}: {path} cannot be read as safetensors ({error})") from error
