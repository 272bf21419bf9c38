"""Stage 0: the shared backbone learns to look names up in records, by a LoRA that is merged into it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import peft
import torch
import transformers

from esmerge.adapters.lora import PREFIX, LoraState
from esmerge.adapters.number_format import in_format, rounded
from esmerge.adapters.peft_folder import load_adapter, save_adapter
from esmerge.model.attach import adapter_digest
from esmerge.model.backbone import Backbone
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.specialists.families.panels.exams import accuracy
from esmerge.specialists.families.panels.settings import ReadingSettings
from esmerge.specialists.families.panels.wording import Wording, text_batch, text_exam
from esmerge.specialists.soft_tokens.stages import ADAPTER, METADATA
from esmerge.specialists.soft_tokens.training import train_adapter
from esmerge.specialists.stage_store import StageStore
from esmerge.storage.cache import Cache, digest
from esmerge.storage.code import closure_digest
from esmerge.storage.tensor_digest import tensors_digest

KIND = "panels-reading"
CHECKPOINT = "panels-checkpoint"
KEPT_AS = torch.bfloat16  # what is taught, on disk: half the size, and what it is examined and merged as


def read(
    backbone: Backbone,
    settings: ReadingSettings,
    wordings: Sequence[Wording],
    targets: Sequence[str],
    store: StageStore,
    seed: int,
) -> tuple[Backbone, Backbone, dict[str, object]]:
    """The backbone that has read, and how well. What was learnt is merged in place: one checkpoint stays in memory.

    Adapters that are made for it name a folder of the cache, which transformers loads: the checkpoint that it was
    before would take them, too, and answer otherwise.

    Returns:
        the backbone; the same with a fingerprint that does not depend on the number format in which it runs, for the
        keys of what is taught to it; and what was recorded.
    """
    lineage = tensors_digest(
        {name: value.to(torch.bfloat16) for name, value in backbone.model.named_parameters()},
        sorted(backbone.tokenizer.get_vocab().items()),
    )
    panels = [asdict(wording) for wording in wordings]
    decided = {"seed": seed, "reading": asdict(settings), "targets": list(targets), "panels": panels}
    versions = {module.__name__: module.__version__ for module in (torch, transformers, peft)}
    versions |= {"numbers": str(backbone.model.dtype)}
    code = {"versions": versions, "code": closure_digest(train_adapter, text_batch)}
    folder = store.folder(
        *(KIND, "backbone", decided | {"backbone": lineage}, code),
        lambda out, scratch: _train(backbone, settings, wordings, targets, seed, out, scratch),
    )
    state = in_format(load_adapter(folder / ADAPTER, "reading"), torch.float32)
    merge_into(backbone.model, state)
    recorded: dict[str, object] = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    vocabulary = sorted(backbone.tokenizer.get_vocab().items())
    fingerprint = tensors_digest(dict(backbone.model.named_parameters()), vocabulary)
    read_lineage = digest([lineage, adapter_digest(state)])
    backbone = replace(backbone, fingerprint=fingerprint)
    backbone = replace(backbone, name=str(kept_checkpoint(backbone, store.cache).resolve()))
    return backbone, replace(backbone, fingerprint=read_lineage), recorded


def kept_checkpoint(backbone: Backbone, cache: Cache) -> Path:
    """A Hugging Face folder of a backbone: its weights as they are in memory, and its tokenizer."""

    def write(folder: Path) -> None:
        backbone.model.save_pretrained(folder)
        backbone.tokenizer.save_pretrained(folder)

    numbers = {"numbers": str(backbone.model.dtype), "transformers": transformers.__version__}
    return cache.folder(CHECKPOINT, {"backbone": backbone.fingerprint} | numbers, write)


def merge_into(model: torch.nn.Module, state: LoraState) -> None:
    """Add an adapter to a model's weights, the sum rounded once to their number format."""
    with torch.no_grad():
        for name, factors in state.modules.items():
            weight = model.get_submodule(name.removeprefix(PREFIX)).get_parameter("weight")
            delta = factors.delta().to(weight.device, torch.float32)
            weight.copy_((weight.float() + delta).to(weight.dtype))


def examine(
    prompt_encoder: PromptEncoder,
    settings: ReadingSettings,
    wordings: Sequence[Wording],
    seed: int,
    adapter: LoraState | None,
) -> dict[str, float]:
    """Panel -> share of questions about held-out records answered rightly."""
    exams = text_exam(wordings, settings.exam, seed)
    return {name: accuracy(prompt_encoder, examples, adapter) for name, examples in exams.items()}


def _train(
    backbone: Backbone,
    settings: ReadingSettings,
    wordings: Sequence[Wording],
    targets: Sequence[str],
    seed: int,
    out: Path,
    scratch: Path,
) -> None:
    prompt_encoder, start = PromptEncoder(backbone, {}), time.perf_counter()
    batches = partial(text_batch, wordings, settings.batch, settings.questions, seed, "reading", naming=settings.naming)
    state, loss = train_adapter(prompt_encoder, "reading", batches, settings, targets, seed, scratch)
    state = rounded(state, KEPT_AS)
    recorded: dict[str, object] = {"loss": loss, "training_seconds": time.perf_counter() - start}
    recorded |= {"before": examine(prompt_encoder, settings, wordings, seed, None)}
    recorded |= {"after": examine(prompt_encoder, settings, wordings, seed, state)}
    save_adapter(in_format(state, KEPT_AS), out / ADAPTER, backbone.name)
    (out / METADATA).write_text(json.dumps(recorded, indent=1), encoding="utf-8")
