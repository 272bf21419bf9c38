"""What the runs of one job share: the team, the benchmarks, the probe's signals. Each is made when first needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from esmerge.adapters.dense import Update
from esmerge.adapters.lora import LoraState
from esmerge.adapters.peft_folder import load_adapter, save_adapter
from esmerge.baselines.finetuning import finetune
from esmerge.calibration.api import MEASURES, Material
from esmerge.calibration.stored import load_measured, save_measured
from esmerge.calibration.types import Measured
from esmerge.coefficients.distances import Distances
from esmerge.coefficients.types import Signals
from esmerge.coefficients.uncertainty import measured_distances
from esmerge.core.cost import Cost, cost, load_cost, save_cost
from esmerge.core.prompts import Benchmark, Pieces
from esmerge.core.timing import stage
from esmerge.evaluation.predictions import generated_frame, predictions_frame
from esmerge.experiment.config import Sweep
from esmerge.model.attach import adapter_digest
from esmerge.model.generation import generate
from esmerge.model.scoring import score
from esmerge.probe.stored import (
    distance_settings,
    load_distances,
    load_signals,
    probed_spaces,
    record_signals,
    save_distances,
)
from esmerge.specialists.api import Context
from esmerge.specialists.team import Team
from esmerge.storage.cache import Cache, code_digest
from esmerge.storage.files import read_table, write_table
from esmerge.tasks.load import load_benchmark

SCORING = 2  # raised when scores of the same model on the same prompts could change
PROBING = 6  # likewise for signals
_TEAMS: dict[str, Team] = {}  # jobs of one process share their models


class Session:
    """The shared state of one job's runs."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.cache = Cache(Path(sweep.cache))
        self.advance: Callable[[int], object] = lambda count: None  # told how many examples were scored
        self._benchmarks: dict[str, Benchmark] = {}
        if sweep.compute.threads:
            torch.set_num_threads(sweep.compute.threads)

    @cached_property
    def team(self) -> Team:
        """The specialists; trained now if they are not in the cache."""
        chosen = self.sweep.specialists
        key = repr((chosen, self.sweep.seed, self.sweep.cache, self.sweep.compute.device))
        if key not in _TEAMS:
            with stage("specialists"):
                context = Context(self.sweep.seed, self.cache, self.sweep.compute.device)
                _TEAMS.clear()  # one set of models in memory at a time
                _TEAMS[key] = chosen.entry.function(chosen.settings, context)
        return _TEAMS[key]

    def prepare(self) -> None:
        """Make or load the team now."""
        _ = self.team.renderer

    def benchmarks(self) -> list[Benchmark]:
        """The benchmarks of the suite, loaded once; what is asked is the split that the sweep names."""
        with stage("benchmarks"):
            found = [self._benchmark(name) for name in self.sweep.questions().names]
        return [validating(one, None) for one in found] if self.sweep.split == "validation" else found

    def _benchmark(self, name: str) -> Benchmark:
        if name not in self._benchmarks:
            self._benchmarks[name] = load_benchmark(self.sweep.questions(), name)
        return self._benchmarks[name]

    def signals(self, space: str) -> tuple[Signals, Cost]:
        """The probe's signals for one merge space, from the cache where they are there, and what they cost."""
        folder = self._signals_folder(space)
        return load_signals(folder), load_cost(folder)

    def distances(self, space: str) -> tuple[Distances | None, Cost]:
        """How far every expert moves every layer, measured once per probe; None where no granularity needs them."""
        granularity = self.sweep.granularity
        if granularity.name == "element":
            return None, Cost()
        signals = self._signals_folder(space)
        key = {"signals": signals.name, "version": PROBING, "seed": self.sweep.seed, **distance_settings(granularity)}

        def make(folder: Path) -> None:
            with cost(self.device) as spent:
                found = measured_distances(load_signals(signals), granularity, self.sweep.seed)
                save_distances(found, folder)
            save_cost(spent, folder)

        with stage("probe"):
            folder = self.cache.folder("distances", key, make)
            return load_distances(folder), load_cost(folder)

    def _signals_folder(self, space: str) -> Path:
        score_kind, spaces = self.sweep.granularity.score, probed_spaces(self.team, space)
        key = {**self._probed(), "version": PROBING, "spaces": spaces, "score": score_kind}

        def make(folder: Path) -> None:
            with cost(self.device) as spent:
                batch_size = self.sweep.probe.settings.batch_size
                record_signals(self.team, self._prompts, batch_size, spaces, score_kind, folder)
            save_cost(spent, folder)

        with stage("probe"):
            return self.cache.folder("signals", key, make)

    def measure(self, name: str, settings: Any, space: str) -> tuple[Measured, Cost]:
        """What a merge measures on the probe's prompts or on the questions, and what it cost."""
        entry = MEASURES.get(name)
        asked = self.benchmarks() if entry.info.questions else []
        questions = {benchmark.name: benchmark.test for benchmark in asked}
        key = {
            **self._probed(),
            "measure": (name, repr(settings), code_digest(MEASURES.modules())),
            "space": space,
            "seed": self.sweep.seed,
            "questions": repr([(e.prompt, e.labels) for examples in questions.values() for e in examples]),
        }

        def make(folder: Path) -> None:
            batch_size = self.sweep.probe.settings.batch_size
            material = Material(self.team, self._prompts, batch_size, self.sweep.seed, space, questions)
            with cost(self.device) as spent:
                save_measured(entry.function(material, settings), folder)
            save_cost(spent, folder)

        with stage("measures"):
            folder = self.cache.folder("measures", key, make)
            return load_measured(folder), load_cost(folder)

    @property
    def device(self) -> str:
        return self.sweep.compute.device

    @cached_property
    def _prompts(self) -> list[Pieces]:
        probe = self.sweep.probe
        return list(probe.entry.function(probe.settings, self.team, self.sweep.seed))

    def _probed(self) -> dict[str, Any]:
        return {
            "team": self.team.fingerprint,
            "prompts": repr(self._prompts),
            "batch_size": self.sweep.probe.settings.batch_size,
        }

    @property
    def adapters(self) -> Mapping[str, LoraState]:
        """Expert name -> its adapter."""
        return self.team.adapters

    def predict(self, adapter: Update | None, benchmark: Benchmark) -> pd.DataFrame:
        """Predictions of the backbone under a merge (None: the bare one) on a benchmark's test split."""
        key: dict[str, Any] = {
            "version": SCORING,
            "team": self.team.fingerprint,
            "adapter": None if adapter is None else adapter_digest(adapter),
            "benchmark": benchmark.checksum,
            "prompts": repr([(example.prompt, example.labels) for example in benchmark.test]),
            "batch_size": self.sweep.compute.batch_size,
            **self.sweep.compute.asking(),
        }

        def make(folder: Path) -> None:
            write_table(folder / "predictions.csv", self._score(adapter, benchmark))

        with stage("scoring"):
            return read_table(self.cache.folder("predictions", key, make) / "predictions.csv", numbers=("score",))

    def finetuned(self, benchmark: Benchmark) -> LoraState:
        """An adapter trained on a benchmark's training split, from the cache where it is there."""
        key = {
            "team": self.team.fingerprint,
            "settings": repr((self.team.finetuning, self.team.targets)),
            "name": benchmark.name,
            "train": repr([example.solved() for example in benchmark.train]),
            "seed": self.sweep.seed,
        }
        scratch = self.cache.scratch("finetuned", key)

        def make(folder: Path) -> None:
            state = finetune(self.team, benchmark.train, benchmark.name, self.sweep.seed, scratch)
            save_adapter(state, folder / "adapter")

        with stage("fine-tuning"):
            return load_adapter(self.cache.folder("finetuned", key, make) / "adapter", f"finetuned {benchmark.name}")

    def _score(self, adapter: Update | None, benchmark: Benchmark) -> pd.DataFrame:
        compute, states = self.sweep.compute, {} if adapter is None else {"asked": adapter}
        with self.team.backbone.attached(states) as activate:
            activate("asked" if states else None)
            asked = (self.team.asking, benchmark.test, compute.batch_size)
            if compute.scoring == "generate":
                return generated_frame(benchmark, generate(*asked, compute.max_new_tokens, self.advance))
            scores = score(*asked, self.advance)
        return predictions_frame(benchmark, scores.per_token() if compute.scoring == "loglik_normalised" else scores)


def validating(benchmark: Benchmark, limit: int | None) -> Benchmark:
    """A benchmark that asks its validation split, or the first ``limit`` questions of it."""
    return replace(benchmark, title=f"{benchmark.title} (validation)", test=benchmark.validation[:limit])
