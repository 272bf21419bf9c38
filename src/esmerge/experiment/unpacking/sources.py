"""What lies at a path: weights that torch saved, a Hugging Face folder or a PEFT folder; and its LoRA scale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from esmerge.adapters.checkpoint import Checkpoint
from esmerge.adapters.lora import PREFIX
from esmerge.adapters.peft_config import rank_and_scale, read_config
from esmerge.adapters.peft_files import CONFIG, adapter_folder, read_headers, weight_files
from esmerge.adapters.reader import TensorFiles
from esmerge.adapters.release import Layout, Source
from esmerge.adapters.torch_file import ENDINGS, read_torch_file
from esmerge.core.errors import AdapterError
from esmerge.core.json_lines import read_json_object

MODEL_CONFIG = "config.json"


def open_source(path: Path, title: str) -> Source:
    """The tensors at a path; of a folder none is read yet.

    Raises:
        AdapterError: nothing that can be read lies there.
    """
    if path.is_dir() and (adapter_folder(path, title) / CONFIG).is_file():
        folder = adapter_folder(path, title)
        read_config(folder, title, allowed=("modules_to_save",))
        headers = read_headers(weight_files(folder, title), title)
        files = TensorFiles({name: (file, name) for name, (file, _) in headers.items()})
        return Source(
            title, tuple(_without_prefix(headers)), lambda name: files.read(_without_prefix(headers)[name])[0]
        )
    if path.is_dir():
        checkpoint = Checkpoint(path)
        return Source(title, tuple(checkpoint.stored), checkpoint.read)
    if path.suffix not in ENDINGS:
        raise AdapterError(f"{title}={path} is neither a folder nor a file that ends in {', '.join(ENDINGS)}")
    tensors = read_torch_file(path)
    return Source(title, tuple(tensors), tensors.__getitem__)


def _without_prefix(headers: Mapping[str, object]) -> dict[str, str]:
    """Name in the whole model -> name that PEFT gives it around that model."""
    return {name.removeprefix(PREFIX): name for name in headers}


def model_type(path: Path) -> str | None:
    """The architecture that a Hugging Face folder's config names; None where there is no such config."""
    if not (path / MODEL_CONFIG).is_file():
        return None
    return str(read_json_object(path / MODEL_CONFIG).get("model_type", ""))


class RankAndScale:
    """Rank and scale of each module: from a PEFT config in the release, else from its model config or its layout.

    Args:
        paths: of the release, the last one first asked.
        layout: of the release.

    Raises:
        AdapterError: nothing says rank and alpha, or the layout and a config contradict one another.
    """

    def __init__(self, paths: Mapping[str, Path], layout: Layout) -> None:
        self._language_model = layout.language_model
        configs = [_peft_config(path, title) for title, path in reversed(list(paths.items())) if path.is_dir()]
        self._config = next((config for config in configs if config is not None), None)
        if self._config is None:
            self._config = _plain_config(paths, layout)

    def of(self, module: str) -> tuple[int, float]:
        """(rank, alpha / rank) of a module by PEFT's name of it."""
        assert self._config is not None
        return rank_and_scale(self._config, self._language_model + module.removeprefix(PREFIX))


def _peft_config(path: Path, title: str) -> dict[str, Any] | None:
    folder = adapter_folder(path, title)
    return read_config(folder, title, allowed=("modules_to_save",)) if (folder / CONFIG).is_file() else None


def _plain_config(paths: Mapping[str, Path], layout: Layout) -> dict[str, Any]:
    scales = {(layout.rank, layout.alpha)} if layout.rank is not None and layout.alpha is not None else set()
    for path in paths.values():
        if (path / MODEL_CONFIG).is_file():
            scales |= set(_stated(read_json_object(path / MODEL_CONFIG)))
    if len(scales) != 1:
        listing = " and ".join(f"r={rank}, lora_alpha={alpha}" for rank, alpha in sorted(scales)) or "nothing"
        raise AdapterError(
            f"the scale of the LoRA factors is unknown: release and config.json say {listing}. Set release.rank and "
            "release.alpha to what the specialist was trained with"
        )
    rank, alpha = scales.pop()
    return {"r": rank, "lora_alpha": alpha}


def _stated(node: object) -> Iterator[tuple[int, float]]:
    """Every (r, lora_alpha) that a model's config holds, however deep."""
    if isinstance(node, Mapping):
        if "r" in node and "lora_alpha" in node:
            yield int(node["r"]), float(node["lora_alpha"])
        for value in node.values():
            yield from _stated(value)
