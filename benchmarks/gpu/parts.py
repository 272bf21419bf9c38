"""The parts of the check, in the order in which they run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """One part: a module with ``run(setting, report)``.

    Attributes:
        name: for ``--only``.
        title: for the page.
        module: where it is.
        seconds: after which it is stopped.
        small_seconds: the same with ``--small``.
    """

    name: str
    title: str
    module: str
    seconds: float
    small_seconds: float

    def limit(self, small: bool) -> float:
        """Seconds after which the part is stopped."""
        return self.small_seconds if small else self.seconds


PARTS = (
    Part("equality", "The same numbers on the device as on the CPU", "benchmarks.gpu.equality", 45, 90),
    Part("coefficients", "Coefficients at the model's shapes", "benchmarks.gpu.coefficients", 110, 90),
    Part("merging", "Merging at the model's shapes", "benchmarks.gpu.merging", 50, 90),
    Part("scoring", "Scoring at the model's shapes", "benchmarks.gpu.scoring", 40, 60),
    Part("memory", "Out of memory", "benchmarks.gpu.memory", 20, 60),
    Part("reference", "The reference procedure at the model's shapes", "benchmarks.gpu.reference", 90, 60),
    # the last one, since it waits for the same sweep on the CPU
    Part("sweep", "The default sweep, device beside CPU", "benchmarks.gpu.sweep", 110, 180),
)
