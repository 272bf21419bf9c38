"""The files on this machine that a run is made of: tables, probes, adapters, encoders and checkpoints.

They are found in a run's config; nothing is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from esmerge.adapters.peft_files import adapter_folder
from esmerge.core.compose import compose_choices
from esmerge.core.paths import user_path
from esmerge.experiment.config import Sweep
from esmerge.experiment.plan import RunSpec
from esmerge.specialists.families.custom.encoders import source_file
from esmerge.specialists.families.custom.settings import CustomSettings

FOLDERS = ("root", "seen")  # settings of benchmarks that name a folder with what is read
ADAPTER_FILES = ("adapter_config.json", "adapter_model*")
LONGEST_NAME = 255  # of a file, in bytes; a longer text names none
CHECKPOINT_FILES = (
    *("*.json", "*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.gguf", "*.whl", "*.model"),
    *("*.txt", "*.jinja", "*.py"),  # merges of a tokenizer, templates of chats, code of the checkpoint's own
)


def benchmark_nodes(sweep: Sweep) -> dict[str, Mapping[str, object]]:
    """Name -> config of each benchmark that is asked, as its file has it; settings of all of them are not in it."""
    if (own := sweep.benchmark.get("name")) is not None:
        return {str(own): sweep.benchmark}
    return {str(name): node for name, node in compose_choices("benchmark", sweep.suite.benchmarks).items()}


def table_folders(sweep: Sweep) -> list[Path]:
    """The folders that the suite's tables, and lists of what specialists have seen, are read from."""
    shared, nodes = sweep.benchmark, benchmark_nodes(sweep).values()
    named = {(key, shared.get(key) or node.get(key)) for node in [shared, *nodes] for key in FOLDERS}
    return sorted({user_path(str(value), f"benchmark.{key}") for key, value in named if value})


def tables_elsewhere(sweep: Sweep) -> list[Path]:
    """Files that benchmarks name and that lie outside these folders."""
    folders = table_folders(sweep)
    texts = {text for node in benchmark_nodes(sweep).values() for text in _texts(node) if text and "\n" not in text}
    paths = {folder / text for folder in folders for text in texts if len(text.encode()) <= LONGEST_NAME}
    inside = {folder.resolve() for folder in folders}
    return sorted(path for path in paths if path.is_file() and not inside & set(path.resolve().parents))


def probe_files(spec: RunSpec) -> dict[Path, str]:
    """The files that a run's probe is read from -> what each is, in words."""
    if not spec.uses_probe:
        return {}
    return {path: f"the {what}" for what, path in spec.sweep.probe.settings.source_files().items()}


def specialist_files(spec: RunSpec) -> dict[Path, str]:
    """The files of a run's specialists on this machine -> what each is of, in words.

    Of those trained here they are the checkpoint and the lessons' tables: stages lie in the cache by what decides them.
    """
    settings = spec.sweep.specialists.settings
    if not spec.uses_model:
        return {}
    if not isinstance(settings, CustomSettings):
        checkpoint = _checkpoint(getattr(settings, "checkpoint", None), "specialists.checkpoint")
        return checkpoint | lesson_tables(settings)
    files = _checkpoint(settings.source().path, "specialists.backbone")
    for name, expert in settings.described().items():
        folder = adapter_folder(user_path(expert.path, f"experts.{name}"), name)
        files |= {path: f"the adapter of {name}" for pattern in ADAPTER_FILES for path in folder.glob(pattern)}
        if expert.encoder and (source := source_file(expert.encoder)):
            files[source] = f"the encoder of {name}"
    owners = {expert.modality or name: expert.path for name, expert in settings.described().items()}
    for modality, node in settings.encoders.items():
        weights = _checkpoint(node.get("path") or owners[modality], f"encoders.{modality}")
        files |= {path: f"the encoder of {modality}" for path in weights if path not in files}
    if settings.pool is not None:
        files[user_path(settings.pool, "specialists.pool")] = "the pool"
    return files


def lesson_tables(settings: object) -> dict[Path, str]:
    """The tables that specialists are taught from -> each in words. A lesson names its table, or a benchmark whose
    config does.
    """
    root, lessons = getattr(settings, "root", None), getattr(settings, "lessons", {})
    if root is None:
        return {}
    folder, lesson_nodes = user_path(root, "specialists.root"), [vars(lesson) for lesson in lessons.values()]
    benchmarks = dict.fromkeys(str(node["benchmark"]) for node in lesson_nodes if "benchmark" in node)
    nodes = [*lesson_nodes, *compose_choices("benchmark", benchmarks).values()]
    texts = {text for node in nodes for text in _texts(node) if len(text.encode()) <= LONGEST_NAME}
    return present({folder / text: f"{text}, which specialists are taught," for text in sorted(texts)})


def _texts(node: object) -> Iterator[str]:
    """All texts in a config, however deep."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping | list | tuple):
        for child in node.values() if isinstance(node, Mapping) else node:
            yield from _texts(child)


def _checkpoint(source: str | None, key: str) -> dict[Path, str]:
    """The files of a checkpoint that lies here; a hub id and an installed package are told apart by their names."""
    path = None if source is None else user_path(source, key)
    if path is None or not path.exists():
        return {}
    files = [path] if path.is_file() else [file for pattern in CHECKPOINT_FILES for file in path.glob(pattern)]
    return dict.fromkeys(files, "the checkpoint")


def present(files: Mapping[Path, str]) -> dict[Path, str]:
    """Those of some files that are there."""
    return {path: what for path, what in files.items() if path.is_file()}
