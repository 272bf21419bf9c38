"""Fine-tuned references, trained once for all that they depend on."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from esmerge.adapters.lora import LoraState
from esmerge.adapters.peft_folder import load_adapter, save_adapter
from esmerge.baselines.finetuning import finetune, finetune_together
from esmerge.core.prompts import Benchmark
from esmerge.core.timing import stage
from esmerge.experiment.context import ExperimentContext
from esmerge.experiment.encoder_samples import encoder_samples
from esmerge.merging.ops.space import combine_deltas, equal_weights
from esmerge.specialists.soft_tokens.stages import ADAPTER
from esmerge.specialists.stage_store import StageStore
from esmerge.storage.cache import digest
from esmerge.storage.code import closure_digest

KIND = "finetuned"


@dataclass(frozen=True)
class FineTuner:
    """Trains adapters on benchmarks' training splits, or takes those that are shipped or in the cache."""

    context: ExperimentContext

    def finetuned(self, benchmark: Benchmark) -> LoraState:
        """An adapter trained on a benchmark's training split; a killed training goes on from its last checkpoint."""
        specialists, seed = self.context.specialists, self.context.seed

        def make(folder: Path, scratch: Path) -> None:
            state = finetune(specialists, benchmark.train, benchmark.name, seed, scratch)
            save_adapter(state, folder / ADAPTER)

        settings = {"name": benchmark.name, "train": _digest(benchmark)} | self._samples(benchmark)
        return self._stored(benchmark.name, settings, closure_digest(finetune), make)

    def average_finetuned(self, benchmark: Benchmark) -> LoraState:
        """The same, but trained on from the average of the specialists' updates, which has the sum of their ranks."""
        specialists, seed = self.context.specialists, self.context.seed

        def make(folder: Path, scratch: Path) -> None:
            start = average(specialists.adapters)
            state = finetune(specialists, benchmark.train, benchmark.name, seed, scratch, start)
            save_adapter(state, folder / ADAPTER)

        settings = {"name": benchmark.name, "train": _digest(benchmark), "start": "average"} | self._samples(benchmark)
        return self._stored(f"average, {benchmark.name}", settings, closure_digest(finetune, combine_deltas), make)

    def multitask(self, suite: Sequence[Benchmark]) -> LoraState:
        """One adapter trained on every benchmark that has a training split, in turns."""
        specialists, seed = self.context.specialists, self.context.seed
        examples = {benchmark.name: benchmark.train for benchmark in suite if benchmark.train}

        def make(folder: Path, scratch: Path) -> None:
            state = finetune_together(specialists, examples, seed, scratch)
            save_adapter(state, folder / ADAPTER)

        together: dict[str, object] = {entry.name: _digest(entry) for entry in suite if entry.train}
        settings = {"together": together} | self._samples(*suite)
        return self._stored("multitask", settings, closure_digest(finetune_together), make)

    def _samples(self, *suite: Benchmark) -> dict[str, object]:
        prompts = [example.prompt for benchmark in suite for example in benchmark.train]
        return dict(encoder_samples(self.context.specialists, prompts))

    def _stored(
        self, name: str, settings: Mapping[str, object], code: str, make: Callable[[Path, Path], None]
    ) -> LoraState:
        specialists = self.context.specialists
        store = specialists.stages or StageStore(self.context.cache)
        key = {
            "specialists": specialists.fingerprint,
            "finetuning": asdict(specialists.finetuning),
            "targets": list(specialists.targets),
            **settings,
            "seed": self.context.seed,
        }
        with stage("fine-tuning"):
            folder = store.folder(KIND, name, key, {"code": code}, make)
            state = load_adapter(folder / ADAPTER, f"finetuned {name}")
            return replace(state, base_model=specialists.backbone.name)


def average(experts: Mapping[str, LoraState]) -> LoraState:
    """``1/N · Σ ΔW_i`` as one adapter, of the sum of their ranks."""
    merged = combine_deltas(experts, equal_weights(experts, "delta", 1 / len(experts)))
    return typing.cast(LoraState, merged).materialize()  # one weight for each expert and module keeps the low rank


def _digest(benchmark: Benchmark) -> str:
    return digest(repr([example.solved() for example in benchmark.train]))
