"""Writes trained stages as a folder that is shipped: safetensors, and a card of how they were made and examined."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from platform import machine, python_version

import numpy
import peft
import rdkit
import torch
import transformers
from safetensors import safe_open

from esmerge import __version__
from esmerge.adapters.peft_folder import load_adapter, save_adapter
from esmerge.core.errors import ConfigError
from esmerge.specialists.shipped import CARD, Stage, checked_in
from esmerge.specialists.soft_tokens.stages import ADAPTER
from esmerge.specialists.specialists import Specialists
from esmerge.storage.cache import digest
from esmerge.storage.files import write_json
from esmerge.storage.whole_folder import whole_folder

KEY = "key.json"  # of the cache: holds hashes of code, which do not count here
AS_TRAINED = "as trained: no number is rounded"
NUMBER_FORMATS = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}  # safetensors' names


def write_weights(specialists: Specialists, folder: Path, made_by: Mapping[str, object]) -> dict[str, object]:
    """Write every stage that was asked for to ``<folder>/<kind>/<name>/``, all or nothing.

    Args:
        specialists: that were trained here or found in the cache.
        folder: one per seed; an existing one is replaced.
        made_by: command, seed and settings.

    Returns:
        the card.

    Raises:
        ConfigError: nothing of these specialists is trained here.
        StoreError: a shipped file was changed.
    """
    if specialists.stages is None or not specialists.stages.stages:
        raise ConfigError(f"weights={folder}: specialists={specialists.name} train nothing here, so nothing is written")
    stages = specialists.stages.stages.values()
    with whole_folder(folder) as out:
        entries: dict[str, dict[str, object]] = {}
        for stage in stages:
            copy_stage(stage, out / stage.kind / stage.name, specialists.name)
            entries.setdefault(stage.kind, {})[stage.name] = checked_in(stage, out / stage.kind / stage.name)
        contents = {"number_format": number_format(out), "stages": entries}
        record = {**made_by, **examined(specialists), **origin(), **contents}
        card: dict[str, object] = json.loads(json.dumps(record, default=str))  # as it will be read
        write_json(out / CARD, {**card, "checksum": digest(card)})
    return card


def copy_stage(stage: Stage, out: Path, backbone: str) -> None:
    """Copy a stage's files; an adapter names its backbone by what it is, not by where it lay."""
    shutil.copytree(stage.folder, out, ignore=shutil.ignore_patterns(KEY))
    if (out / ADAPTER).is_dir():
        save_adapter(load_adapter(out / ADAPTER, stage.name), out / ADAPTER, backbone)


def examined(specialists: Specialists) -> dict[str, object]:
    """The exam's figures, what was required, and whether it was passed; empty where there is no exam."""
    if specialists.exam is None:
        return {}
    exam = specialists.exam(specialists)
    return {"exam": {"passed": not exam.failures(), "figures": exam.figures, "required": exam.required}}


def origin() -> dict[str, object]:
    """Versions, threads and processor that the numbers come from."""
    libraries = {module.__name__: str(module.__version__) for module in (torch, transformers, peft, numpy, rdkit)}
    versions = {"esmerge": __version__, "python": python_version(), **libraries}
    processor = f"{sys.platform} {machine()}, {torch.backends.cpu.get_cpu_capability()}"
    return {
        "versions": versions,
        "torch_threads": torch.get_num_threads(),
        "processor": processor,
    }


def number_format(folder: Path) -> str:
    """The number formats of all weights in a folder, in words; whole numbers beside them do not count."""
    formats: set[str] = set()
    for path in folder.rglob("*.safetensors"):
        with safe_open(path, "pt") as tensors:
            formats |= {tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118 - no mapping
    return f"{' and '.join(words for name, words in NUMBER_FORMATS.items() if name in formats)}, {AS_TRAINED}"
