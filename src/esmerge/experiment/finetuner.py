"""Fine-tuned references, trained once for all that they depend on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from esmerge.adapters.lora import LoraState
from esmerge.adapters.peft_folder import load_adapter, save_adapter
from esmerge.baselines.finetuning import finetune
from esmerge.core.prompts import Benchmark
from esmerge.core.timing import stage
from esmerge.experiment.context import ExperimentContext
from esmerge.storage.code import closure_digest


@dataclass(frozen=True)
class FineTuner:
    """Trains adapters on benchmarks' training splits, or takes them from the cache."""

    context: ExperimentContext

    def finetuned(self, benchmark: Benchmark) -> LoraState:
        """An adapter trained on a benchmark's training split; a killed training goes on from its last checkpoint."""
        specialists, cache, seed = self.context.specialists, self.context.cache, self.context.seed
        key = {
            "code": closure_digest(finetune),
            "specialists": specialists.fingerprint,
            "settings": repr((specialists.finetuning, specialists.targets)),
            "name": benchmark.name,
            "train": repr([example.solved() for example in benchmark.train]),
            "seed": seed,
        }
        scratch = cache.scratch("finetuned", key)

        def make(folder: Path) -> None:
            state = finetune(specialists, benchmark.train, benchmark.name, seed, scratch)
            save_adapter(state, folder / "adapter")

        with stage("fine-tuning"):
            folder = cache.folder("finetuned", key, make)
            return load_adapter(folder / "adapter", f"finetuned {benchmark.name}")
