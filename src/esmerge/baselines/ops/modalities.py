"""Which modalities a benchmark's questions hold, and where a floor that looks at some of them does not apply."""

from __future__ import annotations

from collections.abc import Sequence

from esmerge.core.errors import InputError, NotApplicable
from esmerge.core.prompts import Benchmark

DRUG = "molecule"


def modalities(benchmark: Benchmark) -> tuple[str, ...]:
    """The modalities of the benchmark's first test question, each once; raises ``InputError`` if there is none."""
    if not benchmark.test:
        raise InputError(f"benchmark {benchmark.name!r} has no test examples")
    return tuple(dict.fromkeys(entity.modality for entity in benchmark.test[0].entities()))


def require_modalities(benchmark: Benchmark, required: Sequence[str]) -> tuple[str, ...]:
    """The required modalities; raises ``NotApplicable`` if the benchmark lacks one of them or none is required."""
    present = modalities(benchmark)
    missing = [modality for modality in required if modality not in present]
    if missing or not required:
        raise NotApplicable(
            f"benchmark {benchmark.name!r} holds {', '.join(present) or 'no entities'}: "
            f"no floor from {', '.join(missing) or 'entities'}"
        )
    return tuple(required)


def partner_modalities(benchmark: Benchmark, floor: str) -> tuple[str, ...]:
    """Every modality but the molecules; raises ``NotApplicable``, naming the floor, if there is no other."""
    present = modalities(benchmark)
    partners = tuple(modality for modality in present if modality != DRUG)
    if present and not partners:
        raise NotApplicable(f"benchmark {benchmark.name!r} has no {floor} floor: it holds molecules only")
    return require_modalities(benchmark, partners)
