"""What each adapted linear layer is given at the tokens of the expert's modality: the inputs themselves.

A Gram matrix of a layer's inputs has (in_features)² entries, however few tokens it was made of. The inputs say the
same in tokens × in_features, and a least squares over fewer tokens than channels can be solved among tokens. So rows
are stored as they are while they are fewer than the channels, and as the triangular factor R of ``X = Q R`` beyond:
``RᵀR = XᵀX``, so the two say the same to every least squares.

Where a prompt has more tokens than its share of ``limit``, tokens are taken from it at even distances, beginning
elsewhere in every prompt: soft tokens at the same place of their spans are alike, so every place must have its turn.

Of a large backbone the rows are gigabytes (Llama-3.1-8B: 1.25 million channels over all adapted layers, 2.5 GB for 512
tokens of an expert). Beyond one gigabyte they lie in a temporary file (``TMPDIR``) until they are stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from tqdm import tqdm

from esmerge.calibration.api import STATISTICS, CalibrationData, StatisticInfo
from esmerge.calibration.shelf import Shelf, Shelved
from esmerge.calibration.types import Statistics
from esmerge.calibration.watch import batches, check_reached, holding, prefill, tokens_of, watching
from esmerge.core.lazy import LazyMapping
from esmerge.core.progress import progress
from esmerge.core.prompts import Prompt
from esmerge.core.validation import at_least
from esmerge.probe.prompts import check_probe


@dataclass(frozen=True)
class SpanInputsSettings:
    """Settings of the inputs at modality spans.

    Attributes:
        limit: tokens of each expert that count, at most: as many of each prompt; one each of some prompts, taken at
            even distances, where there are more prompts than tokens. None counts all.
        joined: prompts of the probe that are read as one, so that a prompt holds so many entities of each modality;
            1 reads them as they are.
    """

    limit: int | None = 512
    joined: int = 2

    def __post_init__(self) -> None:
        at_least(self, "method.spans", 1, "limit", "joined")


@dataclass
class _Rows:
    """Inputs of one module, compressed whenever they are twice as many as the channels."""

    shelf: Shelf
    parts: list[Shelved] = field(default_factory=list)
    count: int = 0

    def add(self, rows: Tensor) -> None:
        self.parts.append(self.shelf.put(rows))
        self.count += len(rows)
        if sum(part.shape[0] for part in self.parts) > 2 * rows.shape[1]:
            self.parts = [self.shelf.put(compressed(self._taken()))]

    def mean(self) -> Shelved:
        """Rows whose Gram matrix is the mean over the inputs' outer products; nothing else is left."""
        return self.shelf.put((compressed(self._taken()) / self.count**0.5).cpu())

    def _taken(self) -> Tensor:
        rows = torch.cat([part.read() for part in self.parts])
        for part in self.parts:
            part.drop()
        return rows


def stored_bytes(settings: SpanInputsSettings, widths: Sequence[int], tokens: int) -> int:
    """Of one expert's rows, at most."""
    count = tokens if settings.limit is None else min(tokens, settings.limit)
    return sum(4 * min(count, width) * width for width in widths)


@STATISTICS.register("span_inputs", SpanInputsSettings, StatisticInfo(stored_bytes=stored_bytes))
def span_inputs(material: CalibrationData, settings: SpanInputsSettings) -> Statistics:
    """Expert -> module -> rows (n, in_features), whose Gram matrix ``ZᵀZ`` is the mean over the tokens that count.

    Every expert reads the prompts that hold its modality by itself. n is in_features at most.

    Raises:
        InputError: an expert's modality is in no prompt, or prompts that are joined are longer than the backbone reads.
    """
    specialists = material.specialists
    joined_prompts = joined(material.prompts, settings.joined)
    if settings.joined > 1:
        check_probe(specialists, joined_prompts, lambda index: f"method.spans.joined={settings.joined}, prompt {index}")
    prompts = {
        name: evenly(holding(joined_prompts, specialists.expert_modality[name]), settings.limit)
        for name in specialists.adapters
    }
    total, shelf = sum(map(len, prompts.values())), Shelf()
    with specialists.backbone.attached(specialists.adapters) as activate, progress("span inputs", total) as bar:
        measured = {}
        for name in specialists.adapters:
            activate(name)
            measured[name] = _inputs_of(material, name, prompts[name], settings, shelf, bar)
    return {name: _read_when_asked(rows) for name, rows in measured.items()}


def compressed(rows: Tensor) -> Tensor:
    """At most as many rows as channels, with the same Gram matrix: (n, in) -> (min(n, in), in)."""
    return rows if len(rows) <= rows.shape[1] else torch.linalg.qr(rows, mode="r")[1]


def joined(prompts: Sequence[Prompt], several: int) -> list[Prompt]:
    """The prompts, ``several`` after one another as one; the last has what is left."""
    groups = (prompts[start : start + several] for start in range(0, len(prompts), several))
    return [tuple(segment for prompt in group for segment in prompt) for group in groups]


def evenly(prompts: Sequence[Prompt], limit: int | None) -> Sequence[Prompt]:
    """At most ``limit`` of them, at even distances."""
    if limit is None or len(prompts) <= limit:
        return prompts
    return [prompts[place * len(prompts) // limit] for place in range(limit)]


def spread(tokens: Tensor, quota: int | None, first: int = 0) -> Tensor:
    """At most ``quota`` of each row's true entries, at even distances: (B, T) of bool -> (B, T).

    Args:
        first: number of the first row's prompt; the phase moves from prompt to prompt.
    """
    if quota is None:
        return tokens
    counts = tokens.sum(dim=1, keepdim=True).clamp_min(1)
    numbers = torch.arange(first, first + len(tokens), device=tokens.device)[:, None]
    ends = tokens.cumsum(dim=1) * quota + numbers * quota % counts
    return tokens & ((counts <= quota) | (ends // counts > (ends - quota) // counts))


def _inputs_of(
    material: CalibrationData,
    name: str,
    prompts: Sequence[Prompt],
    settings: SpanInputsSettings,
    shelf: Shelf,
    bar: tqdm,
) -> dict[str, Shelved]:
    """One expert's rows; it is the active one."""
    specialists = material.specialists
    modality, modules = specialists.expert_modality[name], specialists.adapters[name].modules
    rows: dict[str, _Rows] = {}
    quota = None if settings.limit is None else settings.limit // len(prompts)
    for number, batch in enumerate(batches(specialists, prompts, material.batch_size)):
        tokens = spread(tokens_of(batch, modality), quota, number * material.batch_size)

        def add(module: str, inputs: Tensor, tokens: Tensor = tokens) -> None:
            rows.setdefault(module, _Rows(shelf)).add(inputs[tokens.flatten()].float())

        with watching(specialists.backbone.model, modules, add):
            prefill(specialists, batch)
        bar.update(len(batch.spans))
    check_reached(rows, modules)
    return {module: inputs.mean() for module, inputs in rows.items()}


def _read_when_asked(rows: Mapping[str, Shelved]) -> Mapping[str, Tensor]:
    return LazyMapping(rows, lambda module: rows[module].read())
