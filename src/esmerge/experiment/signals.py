"""The probe and its signals: drawn, read through every expert once, and cached by all that they depend on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from esmerge.coefficients.distances import Distances
from esmerge.coefficients.types import ESConfig, Signals
from esmerge.coefficients.uncertainty import measured_distances
from esmerge.core.cost import Cost, cost, load_cost, save_cost
from esmerge.core.prompts import Prompt
from esmerge.core.schema import Selection
from esmerge.core.timing import stage
from esmerge.experiment.context import ExperimentContext
from esmerge.experiment.encoder_samples import encoder_samples
from esmerge.probe.prompts import check_probe
from esmerge.probe.stored import (
    distance_settings,
    load_distances,
    load_signals,
    probed_spaces,
    record_signals,
    save_distances,
)
from esmerge.specialists.soft_tokens.stored import prepare_encoders
from esmerge.storage.code import closure_digest


@dataclass(frozen=True)
class Probe:
    """Prompts that hold every modality, made of entities that no benchmark tests.

    Attributes:
        context: whose entities, and the seed that draws them.
        selection: the probe's config.
    """

    context: ExperimentContext
    selection: Selection

    @cached_property
    def prompts(self) -> tuple[Prompt, ...]:
        """The prompts, drawn once."""
        settings, context = self.selection.settings, self.context
        prompts = tuple(self.selection.entry.function(settings, context.specialists, context.seed))
        if settings.own_entities:  # what is read from a file is checked by its lines
            check_probe(context.specialists, prompts, lambda index: f"probe={self.selection.name}, prompt {index}")
        return prompts

    @property
    def batch_size(self) -> int:
        """Prompts whose gradients are taken together."""
        return int(self.selection.settings.batch_size)

    def key(self) -> dict[str, object]:
        """Cache key of what is measured on the probe: the specialists, the prompts and the batches."""
        return {
            "specialists": self.context.specialists.fingerprint,
            "prompts": repr(list(self.prompts)),
            "batch_size": self.batch_size,
            **encoder_samples(self.context.specialists, self.prompts),
        }


@dataclass(frozen=True)
class SignalStore:
    """Signals and distances of a probe, from the cache where they are there, each with what it cost when it was made.

    Attributes:
        context: who is probed.
        probe: with what.
        score: how gradients become element-wise scores, ``absolute`` or ``squared``.
    """

    context: ExperimentContext
    probe: Probe
    score: str

    def signals(self, space: str) -> tuple[Signals, Cost]:
        """Responses and scores for one merge space; read from disk tensor by tensor."""
        folder = self.folder(space)
        return load_signals(folder), load_cost(folder)

    def distances(self, space: str, granularity: ESConfig) -> tuple[Distances | None, Cost]:
        """How far every expert moves every layer, measured once per probe; None where no granularity needs them."""
        if granularity.name == "element":
            return None, Cost()
        signals, seed = self.folder(space), self.context.seed
        key = {
            "signals": signals.name,
            "code": closure_digest(measured_distances),
            "seed": seed,
            **distance_settings(granularity),
        }

        def make(folder: Path) -> None:
            with cost(self.context.device) as distances_cost:
                device = torch.device(self.context.device)
                save_distances(measured_distances(load_signals(signals), granularity, seed, device=device), folder)
            save_cost(distances_cost, folder)

        with stage("probe"):
            folder = self.context.cache.folder("distances", key, make)
            return load_distances(folder), load_cost(folder)

    def folder(self, space: str) -> Path:
        """Where the signals for one merge space lie; measured now if they are not in the cache."""
        specialists, spaces = self.context.specialists, probed_spaces(self.context.specialists, space)
        key = {**self.probe.key(), "code": closure_digest(record_signals), "spaces": spaces, "score": self.score}

        def make(folder: Path) -> None:
            with cost(self.context.device) as signals_cost:
                prepare_encoders(specialists.encoders, self.probe.prompts)  # not beside the backbone's passes
                record_signals(specialists, self.probe.prompts, self.probe.batch_size, spaces, self.score, folder)
            save_cost(signals_cost, folder)

        with stage("probe"):
            return self.context.cache.folder("signals", key, make)
