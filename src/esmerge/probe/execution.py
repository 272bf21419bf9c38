"""How a probe is carried out: what decides time and memory, and of the numbers their rounding alone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Execution:
    """Block sizes of a probe.

    Attributes:
        positions: of a pass, up to which batches share one. From here on products are as quick as they get; it bounds
            memory where prompts are short.
        entries: of the gradients of all batches of a pass, up to which they are held together.
        direct: whether adapted linear maps are computed here where they can be; else PEFT computes them all.
    """

    positions: int = 1024
    entries: int = 2**18
    direct: bool = True


DEFAULT = Execution()
