"""Prompts as the page's data: every text, entity and drawing once, questions refer to them by number."""

from __future__ import annotations

from esmerge.core.prompts import Entity, Prompt
from esmerge.report.page.molecules import drawing, drawn_modalities

FEW = 30  # drawings that stand for all
PromptPart = int | list[int]
"""A number of a text; in a list, a number of an entity."""


class Pool:
    """What prompts are made of."""

    def __init__(self) -> None:
        self._texts: dict[str, int] = {}
        self._entities: dict[tuple[str, str], int] = {}

    def __len__(self) -> int:
        """How many entities there are."""
        return len(self._entities)

    def parts(self, prompt: Prompt) -> list[PromptPart]:
        """A prompt as numbers."""
        return [self._part(segment) for segment in prompt]

    def length_of_texts(self) -> int:
        """Letters of all texts and entities."""
        return sum(map(len, self._texts)) + sum(len(value) for _, value in self._entities)

    def likely_length_of_drawings(self) -> float:
        """Letters of all drawings, judged from a few spread over the entities."""
        drawable = drawn_modalities(self._entities)
        values = [value for modality, value in self._entities if modality in drawable]
        sample = values[:: max(1, len(values) // FEW)]
        return len(values) * sum(len(drawing(value) or "") for value in sample) / max(1, len(sample))

    def data(self) -> dict[str, object]:
        """``texts``, ``entities`` (modality, value, drawing as SVG or null)."""
        drawable = drawn_modalities(self._entities)
        entities = [
            {"modality": modality, "value": value, "svg": drawing(value) if modality in drawable else None}
            for modality, value in self._entities
        ]
        return {"texts": list(self._texts), "entities": entities}

    def _part(self, segment: object) -> PromptPart:
        if isinstance(segment, Entity):
            return [self._entities.setdefault((segment.modality, segment.value), len(self._entities))]
        return self._texts.setdefault(str(segment), len(self._texts))
