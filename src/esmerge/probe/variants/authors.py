"""The probe of the paper's authors: their folder of texts, line k of each file in prompt k (arXiv 2603.14405).

The folder holds one text a line, ``drug.txt``, ``protein.txt`` and ``cell_line.txt``; blank lines do not count, nor do
lines of ``drug.txt`` that begin with ``===``. The prompt is the user's turn of a Llama 3 chat. Where the authors' code
cuts a longer list off in silence, too few lines are refused here. The authors' two scripts differ in two line breaks of
the prompt; the one for layer-wise coefficients is taken for both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from esmerge.core.errors import ConfigError, InputError
from esmerge.core.paths import user_path
from esmerge.core.prompts import Entity, Prompt, PromptSegment
from esmerge.core.text_files import read_text
from esmerge.core.validation import at_least
from esmerge.probe.api import PROBES, ProbeConfig
from esmerge.probe.prompts import check_probe
from esmerge.specialists.specialists import Specialists

HEADING = "==="  # begins a line that is no entity
OPENING = "<|start_header_id|>user<|end_header_id|>\n\n\n"
CLOSING = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"


@dataclass(frozen=True)
class AuthorsProbe(ProbeConfig):
    """Settings of the authors' probe.

    Attributes:
        folder: with the files.
        samples: K; None for as many as the shortest file has.
        batch_size: prompts per pass; the element score depends on it.
        files: modality -> its file in the folder; those of modalities that no specialist has are not read.
        labels: modality -> the word before its entity.
        opening, closing: the text before the first and after the last entity.
    """

    own_entities: ClassVar[bool] = False
    folder: str | None = None
    samples: int | None = 330
    batch_size: int = 2
    files: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    opening: str = OPENING
    closing: str = CLOSING

    def __post_init__(self) -> None:
        at_least(self, "probe", 1, "samples", "batch_size")
        if missing := sorted(set(self.files) - set(self.labels)):
            raise ConfigError(f"probe.labels has no word for {', '.join(missing)}, which probe.files names")

    def source_files(self) -> Mapping[str, Path]:
        if self.folder is None:
            return {}
        folder = user_path(self.folder, "probe.folder")
        return {f"probe's {modality} file": folder / name for modality, name in self.files.items()}


@PROBES.register("authors", AuthorsProbe)
def authors(settings: AuthorsProbe, specialists: Specialists, seed: int) -> list[Prompt]:
    """K prompts of one entity per modality, as they stand in the files; nothing is drawn.

    Raises:
        ConfigError: no folder was named, or a modality has no file in it.
        InputError: a file has too few lines, or a prompt is longer than the backbone reads.
    """
    if settings.folder is None:
        raise ConfigError(f"probe=authors needs probe.folder: one that holds {', '.join(settings.files.values())}")
    columns = {modality: _entities(settings, modality) for modality in _modalities(settings, specialists)}
    shortest = min(columns, key=lambda modality: len(columns[modality]))
    count = len(columns[shortest]) if settings.samples is None else settings.samples
    if count > len(columns[shortest]) or not count:
        raise InputError(
            f"{_file(settings, shortest)} holds {len(columns[shortest])} entities: expected probe.samples={count} or "
            "more; probe.samples=null takes as many as there are"
        )
    prompts = [
        _prompt(settings, specialists, {modality: column[row] for modality, column in columns.items()})
        for row in range(count)
    ]
    check_probe(specialists, prompts, lambda index: f"probe.folder={settings.folder}, entity {index + 1} of each file")
    return prompts


def _modalities(settings: AuthorsProbe, specialists: Specialists) -> list[str]:
    """The specialists' modalities, in the order of the files."""
    if unnamed := [modality for modality in specialists.modalities if modality not in settings.files]:
        raise ConfigError(
            f"probe.files names no file for {', '.join(unnamed)}, which specialists have: it has those of "
            f"{', '.join(settings.files) or 'none'}"
        )
    return [modality for modality in settings.files if modality in specialists.modalities]


def _file(settings: AuthorsProbe, modality: str) -> Path:
    path = user_path(str(settings.folder), "probe.folder") / settings.files[modality]
    if not path.is_file():
        raise ConfigError(f"probe.folder={settings.folder} has no {settings.files[modality]}: expected one text a line")
    return path


def _entities(settings: AuthorsProbe, modality: str) -> Sequence[str]:
    lines = (line.strip() for line in read_text(_file(settings, modality)).split("\n"))
    return [line for line in lines if line and not line.startswith(HEADING)]


def _prompt(settings: AuthorsProbe, specialists: Specialists, entities: Mapping[str, str]) -> Prompt:
    """Where an entity is read as text, the blank before it belongs to its first word, as a tokenizer reads it."""
    segments: list[PromptSegment] = []
    for modality, value in entities.items():
        as_text = modality not in specialists.encoders
        label = settings.labels[modality] + ":" + " " * (not as_text)
        segments += [label, Entity(modality, " " * as_text + value), "\n"]
    first, last = str(segments[0]), str(segments[-1])
    return (settings.opening + first, *segments[1:-1], last + settings.closing)
