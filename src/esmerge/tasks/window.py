"""Proteins cut to a window: the same residues for every reader, and a count of what was cut.

Without a window readers differ. The embedded specialists' encoder reads the first 2,048 residues, and warns with the
number of longer ones; the language model's encoder reads a chain of any length, and a protein without an encoder is
read as text, whole: a prompt that then exceeds the backbone's positions is refused, or warned of where the backbone was
merely not trained on so many. With a window all of them, and the floors, see the same chain, in training and test.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from esmerge.core.errors import InputError
from esmerge.core.prompts import Benchmark, Entity, Example, PromptSegment, Reject
from esmerge.tasks.few_shot.content import content

PROTEIN = "protein"


def windowed(benchmark: Benchmark, window: int | None) -> Benchmark:
    """Keep the first ``window`` residues of every protein in every split; None keeps all.

    Proteins may become equal: an example that then asks the same as one of the test split, or one of the validation
    split, is refused, with its reason in ``rejects``. Two splits that shared no protein before, as under
    ``cold_target``, share none after: validation examples with a protein of the test, and training examples with one of
    either, are refused as well. Within a split repeated questions and proteins stay. ``shortened`` has one note per
    protein that was cut.

    Raises:
        InputError: a split has no example left that it had.
    """
    if window is None:
        return benchmark
    splits = {"test": benchmark.test, "validation": benchmark.validation, "train": benchmark.train}
    shortened = tuple(note for examples in splits.values() for note in _notes(examples, window))
    if not shortened:
        return benchmark
    whole = {side: set(_proteins(examples)) for side, examples in splits.items()}
    cut: dict[str, tuple[Example, ...]] = {}
    rejects = list(benchmark.rejects)
    for side, examples in splits.items():
        shorter = tuple(_cut(example, window) for example in examples)
        held_out = [example for other in cut.values() for example in other]
        apart = [example for other in cut if whole[other].isdisjoint(whole[side]) for example in cut[other]]
        cut[side] = _apart(shorter, held_out, apart, window, rejects)
        if examples and not cut[side]:
            raise InputError(
                f"benchmark {benchmark.name!r}: benchmark.protein_window={window} leaves no {side} example, since the "
                "cut proteins are those of other splits: keep more residues"
            )
    train, validation, test = (cut[side] for side in ("train", "validation", "test"))
    return replace(
        benchmark, train=train, validation=validation, test=test, rejects=tuple(rejects), shortened=shortened
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


def _proteins(examples: Iterable[Example]) -> dict[str, str]:
    """Protein -> the first example that holds it."""
    proteins: dict[str, str] = {}
    for example in examples:
        for protein in example.entities(PROTEIN):
            proteins.setdefault(protein.value, example.id)
    return proteins


def _apart(
    examples: Iterable[Example],
    held_out: Iterable[Example],
    strangers: Iterable[Example],
    window: int,
    rejects: list[Reject],
) -> tuple[Example, ...]:
    """The examples that ask what no held-out one asks and hold no protein of the strangers, of whose proteins none was
    theirs before; the others are added to ``rejects``."""
    twins = {content(example): example.id for example in held_out}
    owners = _proteins(strangers)
    remaining = []
    for example in examples:
        twin = twins.get(content(example))
        owner = next((owners[protein.value] for protein in example.entities(PROTEIN) if protein.value in owners), None)
        if twin is None and owner is None:
            remaining.append(example)
        else:
            shared = f"asks the same as {twin}" if twin is not None else f"holds the same protein as {owner}"
            rejects.append(Reject(example.id, f"{shared} once proteins are cut to {window} residues"))
    return tuple(remaining)
