"""Fine-tuned references, trained once for all that they depend on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from esmerge.adapters.lora import LoraState
from esmerge.adapters.peft_folder import load_adapter, save_adapter
from esmerge.baselines.finetuning import finetune
from esmerge.core.prompts import Benchmark
from esmerge.core.timing import stage
from esmerge.experiment.context import ExperimentContext
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
        store = specialists.stages or StageStore(self.context.cache)
        settings = {
            "specialists": specialists.fingerprint,
            "finetuning": asdict(specialists.finetuning),
            "targets": list(specialists.targets),
            "name": benchmark.name,
            "train": digest(repr([example.solved() for example in benchmark.train])),
            "seed": seed,
        }

        def make(folder: Path, scratch: Path) -> None:
            state = finetune(specialists, benchmark.train, benchmark.name, seed, scratch)
            save_adapter(state, folder / ADAPTER)

        with stage("fine-tuning"):
            folder = store.folder(KIND, benchmark.name, settings, {"code": closure_digest(finetune)}, make)
            state = load_adapter(folder / ADAPTER, f"finetuned {benchmark.name}")
            return replace(state, base_model=specialists.backbone.name)
