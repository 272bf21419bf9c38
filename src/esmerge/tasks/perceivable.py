"""Questions whose entities the specialists' encoders can perceive: the others are rejects, for every method alike.

A molecule without a conformer has no soft tokens in Mol-LLaMA's encoder, a chain beyond an encoder's window none in
Prot2Text-V2's. Such a question is refused before examples are chosen for few-shot prompts and before anyone is asked:
floors and merges, which share one table, answer the same questions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from esmerge.core.errors import InputError
from esmerge.core.prompts import Benchmark, Entity, Example, Reject
from esmerge.tasks.api import Refusals

SHOWN = 5  # reasons that an error quotes


def perceivable(benchmark: Benchmark, refusals: Refusals | None, limit: float) -> Benchmark:
    """The benchmark without examples that hold a refused entity; each is listed in ``rejects`` with the reason.

    Args:
        refusals: what is refused; None where nothing is.
        limit: largest share of the examples of all splits that may be refused.

    Raises:
        InputError: more are refused than ``limit`` allows, or a split has no example left that it had.
    """
    if refusals is None:
        return benchmark
    splits = {"train": benchmark.train, "validation": benchmark.validation, "test": benchmark.test}
    entities = dict.fromkeys(
        entity for examples in splits.values() for example in examples for entity in example.entities()
    )
    reasons = refusals.reasons(entities)
    rejects = [
        Reject(example.id, reason)
        for examples in splits.values()
        for example in examples
        if (reason := _reason(example, reasons)) is not None
    ]
    if not rejects:
        return benchmark
    train, validation, test = (tuple(e for e in s if _reason(e, reasons) is None) for s in splits.values())
    remaining = dict(zip(splits, (train, validation, test), strict=True))
    emptied = [side for side, examples in splits.items() if examples and not remaining[side]]
    total = sum(map(len, splits.values()))
    if emptied or len(rejects) > limit * total:
        listing = "; ".join(f"{reject.row}: {reject.reason}" for reject in rejects[:SHOWN])
        raise InputError(
            f"benchmark {benchmark.name!r}: the specialists' encoders refuse {len(rejects)} of {total} examples"
            f"{f', all of {emptied[0]} among them' if emptied else ''}; a share of at most "
            f"benchmark.max_rejects={limit:g} may be refused, and no split whole. First reasons: {listing}"
        )
    return replace(benchmark, train=train, validation=validation, test=test, rejects=(*benchmark.rejects, *rejects))


def _reason(example: Example, reasons: Mapping[Entity, str]) -> str | None:
    """Why an example is refused: the reason against its first refused entity."""
    return next((reasons[entity] for entity in example.entities() if entity in reasons), None)
