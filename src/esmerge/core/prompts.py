"""What a prompt is made of, before any tokenizer or encoder has seen it.

A prompt is a tuple of segments: plain text, entities (a molecule, a protein, a cell), and answers. Training sequences
hold answers, on which the loss is taken; prompts to be scored hold none.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entity:
    """One molecule, protein or cell in a prompt.

    Attributes:
        modality: e.g. ``"molecule"``; names the encoder that perceives it, if there is one.
        value: the raw form: a SMILES string, an amino-acid sequence, gene symbols separated by blanks.
    """

    modality: str
    value: str


@dataclass(frozen=True)
class Answer:
    """Text that a training sequence is to predict."""

    text: str


PromptSegment = str | Entity | Answer
Prompt = tuple[PromptSegment, ...]


@dataclass(frozen=True)
class Example:
    """One scored question.

    Attributes:
        id: unique within its benchmark and split.
        prompt: the segments before the answer.
        labels: the candidate answers as text, in the benchmark's fixed order.
        answer: index into ``labels``.
        group: what the example belongs to (e.g. its cell line), for few-shot choices and reports.
    """

    id: str
    prompt: Prompt
    labels: tuple[str, ...]
    answer: int
    group: str = ""

    def entities(self, modality: str | None = None) -> tuple[Entity, ...]:
        """The entities of the prompt, all of them or those of one modality."""
        entities = (segment for segment in self.prompt if isinstance(segment, Entity))
        return tuple(entity for entity in entities if modality in (None, entity.modality))

    def solved(self) -> Prompt:
        """The prompt followed by its answer: a training sequence."""
        return (*self.prompt, Answer(self.labels[self.answer]))


@dataclass(frozen=True)
class Reject:
    """A table row that could not become an example, with the reason."""

    row: str
    reason: str


@dataclass(frozen=True)
class Benchmark:
    """A question set with its splits.

    Attributes:
        name: config name.
        title: column head in tables.
        family: what it measures: ``cross_modal``, ``single_modal``, ``drug_drug`` or ``retention``.
        labels: candidate answers; index 1 is the positive class of a binary set.
        train, validation, test: disjoint examples.
        rejects: rows that were refused, never dropped in silence.
        checksum: SHA-256 over everything the examples were made from.
        shortened: one note per entity that was cut to a window, with its example; no row is refused for that.
    """

    name: str
    title: str
    family: str
    labels: tuple[str, ...]
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    checksum: str
    rejects: tuple[Reject, ...] = ()
    shortened: tuple[Reject, ...] = ()
