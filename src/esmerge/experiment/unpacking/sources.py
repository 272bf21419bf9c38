"""What lies at a path: weights that torch saved, a Hugging Face folder or a PEFT folder; and its LoRA scale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from esmerge.adapters.checkpoint import Checkpoint
from esmerge.adapters.lora import PREFIX
from esmerge.adapters.peft_config import check_settings, rank_and_scale, read_config
from esmerge.adapters.peft_files import CONFIG, adapter_folder, read_headers, weight_files
from esmerge.adapters.reader import TensorFiles
from esmerge.adapters.release import Layout, Source
from esmerge.adapters.torch_file import ENDINGS, read_torch_file
from esmerge.core.errors import AdapterError, shown
from esmerge.core.json_lines import read_json_object

MODEL_CONFIG = "config.json"
TRAINED_BESIDE = ("modules_to_save",)  # whole modules, which have their own place in a release
SCALE_OPTIONS = ("use_rslora", "rank_pattern", "alpha_pattern")  # what beside r and lora_alpha makes a scale


def open_source(path: Path, title: str) -> Source:
    """The tensors at a path; of a folder none is read yet.

    Raises:
        AdapterError: nothing that can be read lies there.
    """
    if path.is_dir() and (adapter_folder(path, title) / CONFIG).is_file():
        folder = adapter_folder(path, title)
        read_config(folder, title, allowed=TRAINED_BESIDE)
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
        AdapterError: nothing says rank and alpha, the layout and configs contradict one another, or a config is of more
            than plain LoRA.
    """

    def __init__(self, paths: Mapping[str, Path], layout: Layout) -> None:
        self._language_model = layout.language_model
        configs = [_peft_config(path, title) for title, path in reversed(list(paths.items())) if path.is_dir()]
        self._peft_config = next((config for config in configs if config is not None), None)
        self._config = _plain_config(paths, layout) if self._peft_config is None else self._peft_config

    def of(self, module: str) -> tuple[int, float]:
        """(rank, scale) of a module by PEFT's name of it."""
        path = self._language_model + module.removeprefix(PREFIX)
        if self._peft_config is not None:
            return rank_and_scale(self._config, path)
        return rank_and_scale(self._config, module, stored=path)  # PEFT may have wrapped the language model alone


def _peft_config(path: Path, title: str) -> dict[str, Any] | None:
    folder = adapter_folder(path, title)
    return read_config(folder, title, allowed=TRAINED_BESIDE) if (folder / CONFIG).is_file() else None


def _plain_config(paths: Mapping[str, Path], layout: Layout) -> dict[str, Any]:
    """What the layout and every model config of the release say of the LoRA factors, if it is one thing.

    Raises:
        AdapterError: they say nothing, or several things, or that the adapter is more than plain LoRA.
    """
    stated: list[dict[str, Any]] = []
    for settings in (settings for title, path in paths.items() for settings in _stated_settings(path, title)):
        if settings not in stated:
            stated.append(settings)
    if layout.rank is not None and layout.alpha is not None:
        said = {"r": layout.rank, "lora_alpha": float(layout.alpha)}
        if not any(said.items() <= settings.items() for settings in stated):
            stated = [said, *stated]
    if len(stated) != 1:
        listing = " and ".join(_in_words(settings) for settings in stated) or "nothing"
        raise AdapterError(
            f"the scale of the LoRA factors is unknown: release and config.json say {listing}. Set release.rank and "
            "release.alpha to what the specialist was trained with; of several in config.json keep its own"
        )
    return stated[0]


def _stated_settings(path: Path, title: str) -> Iterator[dict[str, Any]]:
    """What each node of LoRA settings in a folder's model config says of ranks and scales; all are checked."""
    file = path / MODEL_CONFIG
    if not file.is_file():
        return
    for node in _lora_nodes(read_json_object(file)):
        check_settings({"peft_type": "LORA", **node}, title, file, allowed=TRAINED_BESIDE)
        options = {key: node[key] for key in SCALE_OPTIONS if node.get(key)}
        yield {"r": node["r"], "lora_alpha": float(node["lora_alpha"]), **options}


def _lora_nodes(node: object) -> Iterator[Mapping[str, Any]]:
    """Every object in a model's config that says r and lora_alpha, however deep."""
    if isinstance(node, Mapping):
        if "r" in node and "lora_alpha" in node and (node["r"], node["lora_alpha"]) != (None, None):
            yield node
        for value in node.values():
            yield from _lora_nodes(value)


def _in_words(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={shown(value)}" for key, value in settings.items())
