"""Proteins cut to a window: the same residues for every reader, and a count of what was cut.

Without a window readers differ. The embedded specialists' encoder reads the first 2,048 residues, and warns with the
number of longer ones; the language model's encoder reads a chain of any length, and a protein without an encoder is
read as text, whole: a prompt that then exceeds the backbone's positions is refused, or warned of where the backbone was
merely not trained on so many. With a window all of them, and the floors, see the same chain, in training and test.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from esmerge.core.prompts import Benchmark, Entity, Example, PromptSegment, Reject
from esmerge.tasks.few_shot.few_shot import content

PROTEIN = "protein"


def windowed(benchmark: Benchmark, window: int | None) -> Benchmark:
    """Keep the first ``window`` residues of every protein in every split; None keeps all.

    Proteins may become equal: an example that then asks the same as one of the test split, or one of the validation
    split, is refused, with its reason in ``rejects``. Within a split such repeated questions stay. ``shortened`` has
    one note per protein that was cut.
    """
    if window is None:
        return benchmark
    splits = {"test": benchmark.test, "validation": benchmark.validation, "train": benchmark.train}
    shortened = tuple(note for examples in splits.values() for note in _notes(examples, window))
    if not shortened:
        return benchmark
    cut = {side: tuple(_cut(example, window) for example in examples) for side, examples in splits.items()}
    rejects = list(benchmark.rejects)
    validation = _apart(cut["validation"], cut["test"], window, rejects)
    train = _apart(cut["train"], (*cut["test"], *validation), window, rejects)
    return replace(
        benchmark, train=train, validation=validation, test=cut["test"], rejects=tuple(rejects), shortened=shortened
    )


def _notes(examples: Iterable[Example], window: int) -> list[Reject]:
    return [
        Reject(example.id, f"protein of {len(protein.value)} residues: the first {window} are kept")
        for example in examples
        for protein in example.entities(PROTEIN)
        if len(protein.value) > window
    ]


def _cut(example: Example, window: int) -> Example:
    return replace(example, prompt=tuple(_shorter(segment, window) for segment in example.prompt))


def _shorter(segment: PromptSegment, window: int) -> PromptSegment:
    if isinstance(segment, Entity) and segment.modality == PROTEIN:
        return Entity(PROTEIN, segment.value[:window])
    return segment


def _apart(
    examples: Iterable[Example], held_out: Iterable[Example], window: int, rejects: list[Reject]
) -> tuple[Example, ...]:
    """The examples that ask what no held-out one asks; the others are added to ``rejects``."""
    twins = {content(example): example.id for example in held_out}
    distinct = []
    for example in examples:
        twin = twins.get(content(example))
        if twin is None:
            distinct.append(example)
        else:
            rejects.append(Reject(example.id, f"asks the same as {twin} once proteins are cut to {window} residues"))
    return tuple(distinct)
