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
from esmerge.core.errors import InputError
from esmerge.core.lazy import LazyMapping
from esmerge.core.progress import progress
from esmerge.core.prompts import Prompt
from esmerge.core.validation import at_least
from esmerge.model.prompt_encoder import Batch


@dataclass(frozen=True)
class SpanInputsSettings:
    """Settings of the inputs at modality spans.

    Attributes:
        limit: tokens of each expert that count, at most, spread evenly over the prompts (at least one of each prompt);
            the text's tokens have a limit of the same size; None counts all.
        text_weight: weight of the tokens outside every entity (labels and separators) against those of the expert's
            modality, each as a mean over tokens; 0 leaves them out.
    """

    limit: int | None = 2048
    text_weight: float = 0.0

    def __post_init__(self) -> None:
        at_least(self, "method.spans", 1, "limit")
        at_least(self, "method.spans", 0, "text_weight")


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

    def scaled(self, weight: float) -> Shelved:
        """Rows whose Gram matrix is ``weight`` times the mean over the inputs' outer products; nothing else is left."""
        factor: float = (weight / self.count) ** 0.5
        return self.shelf.put((factor * compressed(self._taken())).cpu())

    def _taken(self) -> Tensor:
        rows = torch.cat([part.read() for part in self.parts])
        for part in self.parts:
            part.drop()
        return rows


@STATISTICS.register("span_inputs", SpanInputsSettings, StatisticInfo())
def span_inputs(material: CalibrationData, settings: SpanInputsSettings) -> Statistics:
    """Expert -> module -> rows (n, in_features), whose Gram matrix ``ZᵀZ`` is the mean over the tokens that count.

    With a weight of the text, ``text_name(module)`` holds as much of the text's tokens, ``ZᵀZ`` times the weight. Every
    expert reads the prompts that hold its modality by itself. n is in_features at most.

    Raises:
        InputError: an expert's modality is in no prompt, or text that shall count is in none.
    """
    specialists = material.specialists
    prompts = {name: holding(material.prompts, specialists.expert_modality[name]) for name in specialists.adapters}
    total, shelf = sum(map(len, prompts.values())), Shelf()
    with specialists.backbone.attached(specialists.adapters) as activate, progress("span inputs", total) as bar:
        measured = {}
        for name in specialists.adapters:
            activate(name)
            measured[name] = _inputs_of(material, name, prompts[name], settings, shelf, bar)
    return {name: _read_when_asked(rows) for name, rows in measured.items()}


def text_name(module: str) -> str:
    """The name under which a module's inputs at the text's tokens stand."""
    return f"{module}.text"


def compressed(rows: Tensor) -> Tensor:
    """At most as many rows as channels, with the same Gram matrix: (n, in) -> (min(n, in), in)."""
    return rows if len(rows) <= rows.shape[1] else torch.linalg.qr(rows, mode="r")[1]


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


def text_of(batch: Batch) -> Tensor:
    """Which positions belong to no entity, (B, T); padding does not count."""
    text = batch.mask.bool().clone()
    for row, spans in enumerate(batch.spans):
        for span in spans:
            text[row, span.start : span.stop] = False
    return text


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
    spans: dict[str, _Rows] = {}
    text: dict[str, _Rows] = {}
    quota = None if settings.limit is None else max(1, settings.limit // len(prompts))
    for number, batch in enumerate(batches(specialists, prompts, material.batch_size)):
        first = number * material.batch_size
        masks = [(spans, spread(tokens_of(batch, modality), quota, first))]
        if settings.text_weight > 0:
            masks.append((text, spread(text_of(batch), quota, first)))

        def add(module: str, inputs: Tensor, masks: list[tuple[dict[str, _Rows], Tensor]] = masks) -> None:
            for rows, tokens in masks:
                rows.setdefault(module, _Rows(shelf)).add(inputs[tokens.flatten()].float())

        with watching(specialists.backbone.model, modules, add):
            prefill(specialists, batch)
        bar.update(len(batch.spans))
    check_reached(spans, modules)
    measured = {module: rows.scaled(1.0) for module, rows in spans.items()}
    return measured | {text_name(module): _scaled_text(rows, settings) for module, rows in text.items()}


def _read_when_asked(rows: Mapping[str, Shelved]) -> Mapping[str, Tensor]:
    return LazyMapping(rows, lambda module: rows[module].read())


def _scaled_text(rows: _Rows, settings: SpanInputsSettings) -> Shelved:
    if rows.count == 0:
        raise InputError(
            f"method.spans.text_weight={settings.text_weight:g}: the probe's prompts hold no text beside their "
            "entities; set it to 0"
        )
    return rows.scaled(settings.text_weight)
