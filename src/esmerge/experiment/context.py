"""What all work on a language model shares: the specialists, the cache, the device and the seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from esmerge.core.timing import stage
from esmerge.experiment.config import Sweep
from esmerge.specialists.api import Context
from esmerge.specialists.specialists import Specialists
from esmerge.storage.cache import Cache

_SPECIALISTS: dict[str, Specialists] = {}  # jobs of one process share their models


@dataclass(frozen=True)
class ExperimentContext:
    """The specialists, the cache, the device, and the seed of all random draws.

    Attributes:
        specialists: the backbone, its adapters and its encoders.
        cache: finished work by content.
        device: where models run and merges are computed.
        seed: of random directions, samples and training.
    """

    specialists: Specialists
    cache: Cache
    device: str
    seed: int


def open_context(sweep: Sweep) -> ExperimentContext:
    """The context of a sweep's job; specialists that are not in the cache are trained now."""
    return ExperimentContext(load_specialists(sweep), Cache(Path(sweep.cache)), sweep.compute.device, sweep.seed)


def load_specialists(sweep: Sweep) -> Specialists:
    """The specialists that a sweep names: made once per process, one set of models in memory at a time."""
    selection = sweep.specialists
    key = repr((selection, sweep.seed, sweep.cache, sweep.compute.device))
    if key not in _SPECIALISTS:
        with stage("specialists"):
            context = Context(sweep.seed, Cache(Path(sweep.cache)), sweep.compute.device)
            _SPECIALISTS.clear()
            _SPECIALISTS[key] = selection.entry.function(selection.settings, context)
    return _SPECIALISTS[key]


def forget_specialists() -> None:
    """Let go of the specialists in memory, so that they are loaded again."""
    _SPECIALISTS.clear()
