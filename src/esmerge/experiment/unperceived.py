"""Whether questions hold what encoders perceive: a modality under another name would be read as text, unremarked."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from esmerge.core.prompts import Benchmark
from esmerge.core.timing import stage
from esmerge.specialists.specialists import Specialists

_SEEN: dict[str, frozenset[str]] = {}  # name and checksum of a benchmark -> its modalities, for all runs of a process


def warn_of_idle_encoders(suite: Sequence[Benchmark], specialists: Specialists) -> None:
    """Warn of encoders that no question calls while questions hold modalities that nobody perceives.

    Either alone is usual: not every suite asks about every modality, and a modality without a specialist is text.
    """
    with stage("benchmarks"):
        modalities = frozenset[str]().union(*map(_modalities, suite))
    idle = [modality for modality in specialists.encoders if modality not in modalities]
    as_text = sorted(modalities - set(specialists.modalities) - set(specialists.encoders))
    if idle and as_text:
        owner = next((name for name, own in specialists.expert_modality.items() if own == idle[0]), idle[0])
        warnings.warn(
            f"no question holds a {' or a '.join(idle)}, so that encoder is never called, and {', '.join(as_text)} is "
            f"read as text: if {idle[0]} is {as_text[0]} under another name, say "
            f"specialists.experts.{owner}.modality={as_text[0]}",
            stacklevel=2,
        )


def _modalities(benchmark: Benchmark) -> frozenset[str]:
    key = f"{benchmark.name} {benchmark.checksum}"
    if key not in _SEEN:
        modalities = {entity.modality for example in benchmark.test for entity in example.entities()}
        _SEEN[key] = frozenset(modalities)
    return _SEEN[key]
