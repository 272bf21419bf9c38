"""Stage 0: the shared backbone learns to read, by a LoRA that is merged into it and kept as a small adapter."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import peft
import torch
import transformers

from esmerge.adapters.lora import PREFIX, LoraState
from esmerge.adapters.peft_folder import load_adapter, save_adapter
from esmerge.core.prompts import Prompt
from esmerge.core.validation import at_least, shares
from esmerge.model.backbone import Backbone
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.specialists.families.language_model.exams import accuracy
from esmerge.specialists.families.language_model.forms import FormSettings, reading_batch, reading_exam
from esmerge.specialists.soft_tokens.settings import LoraSettings
from esmerge.specialists.soft_tokens.stages import ADAPTER, METADATA
from esmerge.specialists.soft_tokens.training import train_adapter
from esmerge.specialists.stage_store import StageStore
from esmerge.storage.cache import tensors_digest
from esmerge.storage.code import closure_digest

KIND = "language-model-reading"


@dataclass(frozen=True)
class ReadingSettings(LoraSettings):
    """Text-only training of the shared backbone; no ``forms``, and it stays as it is.

    Attributes:
        forms: name -> what is asked.
        questions: at most so many about one fact.
        exam: questions of each form about held-out facts.
        entering: over this share of the steps forms come in one after the other, in their order: what is simple first.
            All at once, none is learnt.
        required: share of them, in every form, that must be answered rightly before specialists are trained.
    """

    rank: int = 16
    steps: int = 150
    batch: int = 12
    rate: float = 1e-3
    forms: dict[str, FormSettings] = field(default_factory=dict)
    questions: int = 4
    exam: int = 60
    entering: float = 0.7
    required: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, "specialists.reading", 1, "questions", "exam")
        shares(self, "specialists.reading", "required", "entering")


def text_batches(settings: ReadingSettings, size: int, seed: int, stream: str) -> Callable[[int], Sequence[Prompt]]:
    """Step -> ``size`` text-only training sequences of all forms."""
    return lambda step: reading_batch(settings.forms, size, settings.questions, seed, stream, step)


def first_batches(settings: ReadingSettings, seed: int) -> Callable[[int], Sequence[Prompt]]:
    """Step -> the sequences from which the backbone learns to read: of the forms that have come in."""

    def batch(step: int) -> Sequence[Prompt]:
        forms = dict(list(settings.forms.items())[: forms_in(settings, step)])
        return reading_batch(forms, settings.batch, settings.questions, seed, "reading", step)

    return batch


def forms_in(settings: ReadingSettings, step: int) -> int:
    """How many forms have come in at a step; all of them after the share of ``entering``."""
    every, total = settings.entering * settings.steps / len(settings.forms), len(settings.forms)
    return total if step >= every * total else 1 + int(step / every)


def read(
    backbone: Backbone, settings: ReadingSettings, targets: Sequence[str], store: StageStore, seed: int
) -> tuple[Backbone, dict[str, object]]:
    """The backbone that has read, and how well; the same backbone if there are no forms.

    What was learnt is merged in place: one checkpoint stays in memory.
    """
    if not settings.forms:
        return backbone, {}
    decided = {"seed": seed, "reading": asdict(settings), "targets": list(targets), "backbone": backbone.fingerprint}
    versions = {module.__name__: module.__version__ for module in (torch, transformers, peft)}
    code = {"versions": versions, "code": closure_digest(train_adapter, reading_batch)}
    folder = store.folder(
        *(KIND, "backbone", decided, code),
        lambda out, scratch: _train(backbone, settings, targets, seed, out, scratch),
    )
    merge_into(backbone.model, load_adapter(folder / ADAPTER, "reading"))
    recorded: dict[str, object] = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    vocabulary = sorted(backbone.tokenizer.get_vocab().items())
    fingerprint = tensors_digest(dict(backbone.model.named_parameters()), vocabulary)
    return replace(backbone, fingerprint=fingerprint), recorded


def merge_into(model: torch.nn.Module, state: LoraState) -> None:
    """Add an adapter to a model's weights, the sum rounded once to their number format."""
    with torch.no_grad():
        for name, factors in state.modules.items():
            weight = model.get_submodule(name.removeprefix(PREFIX)).get_parameter("weight")
            delta = factors.delta().to(weight.device, torch.float32)
            weight.copy_((weight.float() + delta).to(weight.dtype))


def examine(
    prompt_encoder: PromptEncoder, settings: ReadingSettings, seed: int, adapter: LoraState | None
) -> dict[str, float]:
    """Form -> share of held-out questions answered rightly."""
    exams = reading_exam(settings.forms, settings.exam, seed)
    return {name: accuracy(prompt_encoder, examples, adapter) for name, examples in exams.items()}


def _train(
    backbone: Backbone, settings: ReadingSettings, targets: Sequence[str], seed: int, out: Path, scratch: Path
) -> None:
    prompt_encoder, start = PromptEncoder(backbone, {}), time.perf_counter()
    batches = first_batches(settings, seed)
    state, loss = train_adapter(prompt_encoder, "reading", batches, settings, targets, seed, scratch)
    recorded: dict[str, object] = {"loss": loss, "training_seconds": time.perf_counter() - start}
    recorded |= {"before": examine(prompt_encoder, settings, seed, None)}
    recorded |= {"after": examine(prompt_encoder, settings, seed, state)}
    save_adapter(state, out / ADAPTER, backbone.name)
    (out / METADATA).write_text(json.dumps(recorded, indent=1), encoding="utf-8")
