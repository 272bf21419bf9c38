"""Where a stage's result comes from: shipped with the program, found in the cache, or made now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from esmerge.core.paths import WEIGHTS
from esmerge.core.progress import say
from esmerge.specialists.shipped import ShippedStages, Stage
from esmerge.storage.cache import Cache


def shipped_store(name: str, seed: int, retrain: bool, cache: Cache) -> StageStore:
    """The stages that are shipped for a set of specialists and a seed, and the cache behind them.

    Args:
        name: of the folder under ``benchmarks/specialists``.
        retrain: what is shipped does not count.
    """
    if retrain:
        return StageStore(cache, reason="specialists.retrain=true")
    folder = WEIGHTS / name / f"seed{seed}"
    if folder.is_dir():
        return StageStore(cache, ShippedStages(folder))
    seeds = sorted(path.name.removeprefix("seed") for path in folder.parent.glob("seed*"))
    return StageStore(cache, reason=f"weights are shipped for seed {', '.join(seeds) or '(none)'}, not for {seed}")


@dataclass
class StageStore:
    """Looks a stage up among the shipped ones, then in the cache; makes it where neither has it.

    Attributes:
        cache: of finished work.
        shipped: the stages that come with the program; None if there are none for this config.
        reason: why there are none; said once, when something is made. Nothing is said where nothing is ever shipped.
        stages: (kind, name) -> every stage that was asked for.
    """

    cache: Cache
    shipped: ShippedStages | None = None
    reason: str = ""
    stages: dict[tuple[str, str], Stage] = field(default_factory=dict)
    _silent: bool = False

    def folder(
        self,
        kind: str,
        name: str,
        settings: Mapping[str, object],
        code: Mapping[str, object],
        make: Callable[[Path, Path], None],
    ) -> Path:
        """The finished folder of a stage.

        Args:
            kind: of work, e.g. ``textbook-specialist``.
            name: of what is trained; one per kind.
            settings: all that decides the result, beside ``code``.
            code: hashes of code and versions of libraries; part of the cache's key alone.
            make: fills a folder; gets it, and one for checkpoints, which outlives an interruption.

        Raises:
            StoreError: a shipped file was changed.
        """
        renewed = kind in self.cache.renewed
        result = None if self.shipped is None or renewed else self.shipped.find(kind, name, settings)
        if result is None:
            key = {**settings, **code}

            def training(out: Path) -> None:
                self._say_why(kind, name, settings, renewed)
                make(out, self.cache.scratch(kind, key))

            result = self.cache.folder(kind, key, training)
        self.stages[kind, name] = Stage(kind, name, settings, result)
        return result

    def _say_why(self, kind: str, name: str, settings: Mapping[str, object], renewed: bool) -> None:
        reason = self.reason
        if self.shipped is not None:
            differences = self.shipped.differences(kind, name, settings)
            reason = "a sweep reads it with specialists.retrain=true" if renewed else f"not shipped ({differences})"
        if reason and not self._silent:
            say(f"{kind} {name} is trained now: {reason}")
        self._silent = True
