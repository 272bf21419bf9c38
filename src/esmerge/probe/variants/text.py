"""Prompts from a file: JSON lines, one object per sample with one text per expert name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from esmerge.core.errors import ConfigError, InputError
from esmerge.core.json_lines import read_json_lines
from esmerge.core.paths import user_path
from esmerge.core.prompts import Entity, Prompt, PromptSegment
from esmerge.core.validation import at_least
from esmerge.probe.api import PROBES, ProbeConfig
from esmerge.probe.prompts import check_probe
from esmerge.specialists.specialists import Specialists


@dataclass(frozen=True)
class TextProbe(ProbeConfig):
    """Settings of a probe read from a file.

    Attributes:
        file: JSON lines; each object maps every expert's name to a text of that expert's own modality.
        samples: K, at most this many lines; None for all.
        batch_size: prompts per pass; the element score depends on it.
    """

    own_entities: ClassVar[bool] = False
    file: str | None = None
    samples: int | None = None
    batch_size: int = 2

    def __post_init__(self) -> None:
        at_least(self, "probe", 1, "samples", "batch_size")

    def source_files(self) -> Mapping[str, Path]:
        return {} if self.file is None else {"probe file": user_path(self.file, "probe.file")}


@PROBES.register("text", TextProbe)
def text(settings: TextProbe, specialists: Specialists, seed: int) -> list[Prompt]:
    """``NAME: ``, the text and a newline for each expert in order.

    Raises:
        ConfigError: no file was named, or it is not there.
        InputError: a line is not a JSON object, lacks an expert's text, or is longer than the backbone reads; the
            message names line and expert.
    """
    path = settings.source_files().get("probe file")
    if path is None:
        raise ConfigError("probe=text needs probe.file: JSON lines with one text per expert name")
    if not path.is_file():
        raise ConfigError(
            f"probe.file {path} {'is a folder' if path.exists() else 'does not exist'}: expected JSON lines"
        )
    samples = read_json_lines(path, settings.samples)
    if not samples:
        raise InputError(f"probe.file {path} holds no samples")
    prompts = [_prompt(specialists, sample, f"{path}, line {number}") for number, sample in samples]
    check_probe(specialists, prompts, lambda index: f"{path}, line {samples[index][0]}")
    return prompts


def _prompt(specialists: Specialists, sample: Mapping[str, object], where: str) -> Prompt:
    segments: list[PromptSegment] = []
    for expert, modality in specialists.expert_modality.items():
        value = sample.get(expert)
        if not isinstance(value, str) or not value.strip():
            raise InputError(f"{where} has no text for expert {expert!r}: each needs a non-empty one")
        segments += [f"{expert}: ", Entity(modality, value), "\n"]
    return tuple(segments)
