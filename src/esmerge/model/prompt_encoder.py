"""From segments to what a model reads: token ids, soft tokens, targets and modality spans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from esmerge.core.devices import moved
from esmerge.core.errors import InputError, shown
from esmerge.core.prompts import Answer, Entity, Prompt
from esmerge.model.backbone import Backbone
from esmerge.model.encoder import ModalityEncoder

IGNORED = -100  # target of a position on which no loss is taken


@dataclass(frozen=True)
class Span:
    """Positions ``start`` to ``stop`` (exclusive) that one entity occupies."""

    modality: str
    start: int
    stop: int


@dataclass(frozen=True)
class EncodedPrompt:
    """One sequence of T positions.

    Attributes:
        ids: T token ids; where a soft token stands, its modality's placeholder or padding.
        soft: (start, (tokens, hidden)) for each entity that an encoder perceives.
        targets: T ids to predict *at* each position, ``IGNORED`` where none.
        spans: where the entities stand.
    """

    ids: list[int]
    soft: list[tuple[int, Tensor]]
    targets: list[int]
    spans: list[Span]


@dataclass(frozen=True)
class Batch:
    """Right- or left-padded sequences: embeds (B, T, hidden), mask (B, T), targets (B, T), spans per sequence."""

    embeds: Tensor
    mask: Tensor
    targets: Tensor
    spans: list[list[Span]]

    def positions(self) -> Tensor:
        """Position of every token in its own sequence, (B, T); padding gets 0."""
        return (self.mask.cumsum(dim=1) - 1).clamp(min=0)


class PromptEncoder:
    """Turns segments into model input with one backbone's tokenizer and a set of encoders.

    A modality without an encoder is read as text. Prompt are tokenised one by one, without special tokens, so that an
    entity's span does not depend on its neighbours; a start token comes first where the tokenizer has one.
    """

    def __init__(self, backbone: Backbone, encoders: Mapping[str, ModalityEncoder]) -> None:
        self.backbone = backbone
        self.encoders = dict(encoders)
        self._token_ids: dict[str, list[int]] = {}

    def tokens(self, text: str) -> list[int]:
        """Ids of a segment of text.

        Raises:
            InputError: the backbone has no embedding for one of its tokens.
        """
        if text not in self._token_ids:
            ids: list[int] = self.backbone.tokenizer(text, add_special_tokens=False)["input_ids"]
            self._check_known(ids, text)
            self._token_ids[text] = ids
        return self._token_ids[text]

    def _check_known(self, ids: Sequence[int], text: str) -> None:
        if strangers := sorted(set(ids) - self.backbone.known_ids(ids)):
            token = self.backbone.tokenizer.convert_ids_to_tokens(strangers[0])
            raise InputError(
                f"{shown(text)}: the tokenizer reads {token!r} as token {strangers[0]}, and the backbone has "
                f"embeddings of {self.backbone.vocabulary_rows} tokens: give the tokenizer that belongs to it, or a "
                "backbone with resized embeddings"
            )

    def encode(self, sequences: Sequence[Prompt]) -> list[EncodedPrompt]:
        """Render sequences; each encoder sees all its entities at once.

        Raises:
            InputError: an entity is invalid or has no tokens; the message holds its value.
        """
        soft = self._encode(sequences)
        return [self._render_sequence(segments, soft) for segments in sequences]

    def soft_lengths(self, sequences: Sequence[Prompt]) -> dict[Entity, int]:
        """Positions of each entity that an encoder perceives.

        Raises:
            InputError: an entity is invalid; the message holds its value.
        """
        return {entity: len(tokens) for entity, tokens in self._encode(sequences).items()}

    def collate(self, encoded: Sequence[EncodedPrompt], side: str = "right") -> Batch:
        """Pad sequences into one batch; ``side`` is where the padding goes."""
        width = max(len(item.ids) for item in encoded)
        offsets = [width - len(item.ids) if side == "left" else 0 for item in encoded]
        ids = torch.full((len(encoded), width), self.backbone.padding_id, dtype=torch.long)
        mask, targets = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
        for row, (item, offset) in enumerate(zip(encoded, offsets, strict=True)):
            where = slice(offset, offset + len(item.ids))
            ids[row, where] = torch.tensor(item.ids)
            targets[row, where] = torch.tensor(item.targets)
            mask[row, where] = 1
        device = self.backbone.device
        embeds = self.backbone.embed(moved(ids, device))
        embeds = self._insert(embeds, encoded, offsets)
        spans = [
            [Span(s.modality, s.start + offset, s.stop + offset) for s in item.spans]
            for item, offset in zip(encoded, offsets, strict=True)
        ]
        return Batch(embeds, moved(mask, device), moved(targets, device), spans)

    def batch(self, sequences: Sequence[Prompt], side: str = "right") -> Batch:
        """Render and collate."""
        return self.collate(self.encode(sequences), side)

    def _encode(self, sequences: Sequence[Prompt]) -> dict[Entity, Tensor]:
        soft: dict[Entity, Tensor] = {}
        for modality, encoder in self.encoders.items():
            entities = dict.fromkeys(
                segment
                for segments in sequences
                for segment in segments
                if isinstance(segment, Entity) and segment.modality == modality
            )
            if entities:
                encoded = encoder.encode([entity.value for entity in entities])
                soft.update(zip(entities, encoded, strict=True))
        return soft

    def _render_sequence(self, segments: Prompt, soft: Mapping[Entity, Tensor]) -> EncodedPrompt:
        ids = [] if self.backbone.start_id is None else [self.backbone.start_id]
        placed, spans, answers = [], [], []
        for segment in segments:
            start = len(ids)
            if isinstance(segment, Entity) and segment in soft:
                placed.append((start, soft[segment]))
                ids += [self.backbone.placeholder_id(segment.modality)] * len(soft[segment])
            else:
                ids += self.tokens(text_of(segment))
            if isinstance(segment, Answer):
                answers.append((start, len(ids)))
            if isinstance(segment, Entity):
                if len(ids) == start:
                    raise InputError(f"{segment.modality} {segment.value!r} is empty: it has no tokens")
                spans.append(Span(segment.modality, start, len(ids)))
        return EncodedPrompt(ids, placed, _targets(ids, answers), spans)

    def _insert(self, embeds: Tensor, encoded: Sequence[EncodedPrompt], offsets: Sequence[int]) -> Tensor:
        rows: list[int] = []
        columns: list[int] = []
        values: list[Tensor] = []
        for row, (item, offset) in enumerate(zip(encoded, offsets, strict=True)):
            for start, tokens in item.soft:
                rows += [row] * len(tokens)
                columns += range(offset + start, offset + start + len(tokens))
                values.append(tokens)
        if not values:
            return embeds
        index = moved(torch.tensor([rows, columns]), embeds.device)
        return embeds.index_put((index[0], index[1]), torch.cat(values).to(embeds))


def text_of(segment: str | Entity | Answer) -> str:
    """What a tokenizer reads of a segment."""
    if isinstance(segment, Entity):
        return segment.value
    return segment.text if isinstance(segment, Answer) else segment


def _targets(ids: list[int], answers: list[tuple[int, int]]) -> list[int]:
    """Targets shifted by one: position t predicts the id at t + 1, inside answers only."""
    targets = [IGNORED] * len(ids)
    for start, stop in answers:
        first = max(start, 1)  # nothing comes before the first position, so it cannot be predicted
        targets[first - 1 : stop - 1] = ids[first:stop]
    return targets
