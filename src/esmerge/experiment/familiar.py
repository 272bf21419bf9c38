"""Whether questions ask about what the specialists were taught: who remembers an answer need not perceive anything."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from esmerge.core.prompts import Benchmark
from esmerge.core.timing import stage
from esmerge.specialists.specialists import Specialists

_COUNTED: dict[str, int] = {}  # specialists, and name and checksum of a benchmark -> familiar questions


def warn_of_familiar_questions(suite: Sequence[Benchmark], specialists: Specialists) -> None:
    """Warn of test questions each of whose entities the specialists were taught.

    Entities are compared as they are written; ``benchmark.seen`` compares molecules in all their forms. Experts of the
    user's own do not say what they were taught.
    """
    with stage("benchmarks"):
        counts = [(_familiar(benchmark, specialists), benchmark) for benchmark in suite]
    shares = [f"{count} of {len(benchmark.test)} of {benchmark.name}" for count, benchmark in counts if count]
    if shares:
        warnings.warn(
            f"the specialists were taught all entities of {', '.join(shares)} questions: they may remember answers; "
            "`python -m src.train … seen=DIR` lists what was taught, benchmark.seen=DIR leaves such questions out",
            stacklevel=2,
        )


def _familiar(benchmark: Benchmark, specialists: Specialists) -> int:
    key = f"{specialists.fingerprint} {benchmark.name} {benchmark.checksum} {len(benchmark.test)}"
    if key not in _COUNTED:
        taught = {modality: frozenset(entities) for modality, entities in specialists.taught.items()}
        questions = [example.entities() for example in benchmark.test]
        _COUNTED[key] = sum(
            bool(entities) and all(entity.value in taught.get(entity.modality, ()) for entity in entities)
            for entities in questions
        )
    return _COUNTED[key]
