"""What a config may say about teaching a specialist on the user's backbone."""

from __future__ import annotations

from dataclasses import dataclass, field

from esmerge.core.errors import ConfigError
from esmerge.core.validation import above_zero, at_least
from esmerge.specialists.families.language_model.settings import TARGETS


@dataclass(frozen=True)
class TeachingSettings:
    """One specialist's LoRA, trained on the training splits of benchmarks, whose entities it reads as text.

    Attributes:
        benchmarks: config names; all of their training examples are taught, in turns.
        steps: updates for each benchmark.
        batch: questions in an update.
        rate: peak learning rate of AdamW.
        weight_decay: of AdamW.
        rank, alpha: of the LoRA.
        targets: linear modules that it adapts.
    """

    benchmarks: list[str]
    steps: int = 400
    batch: int = 8
    rate: float = 2e-4
    weight_decay: float = 0.01
    rank: int = 8
    alpha: float = 32.0
    targets: list[str] = field(default_factory=lambda: list(TARGETS))

    def __post_init__(self) -> None:
        at_least(self, "specialists.teaching", 1, "steps", "batch", "rank")
        at_least(self, "specialists.teaching", 0, "weight_decay")
        above_zero(self, "specialists.teaching", "rate", "alpha")
        if not self.benchmarks or len(set(self.benchmarks)) < len(self.benchmarks):
            raise ConfigError(
                f"specialists.teaching: benchmarks={self.benchmarks}, expected one or more benchmarks, each once"
            )
        if not self.targets:
            raise ConfigError("specialists.teaching: targets is empty, expected names of linear modules")
