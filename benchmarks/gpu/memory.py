"""Out of memory, provoked: the batch is halved, the run goes on, and the scores are those of a small batch.

On a GPU this process is allowed little more memory than a small batch takes; on the CPU a model is used that says it is
out of memory above a number of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from benchmarks.gpu.models import SMALL, Shape, random_llama
from benchmarks.gpu.report import Report
from benchmarks.gpu.setting import Setting, free
from benchmarks.speed.scoring import arguments, collated, examples

from esmerge.model.backbone import Backbone
from esmerge.model.generation import generate
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.model.scoring import score

LARGER = Shape(4, 1024, 8, 4, 4096, 32000)
FEW, MANY, LENGTH = 4, 64, 256
ROOM = 1.25  # times the memory that a small batch takes


def run(setting: Setting, report: Report) -> None:
    """Score and generate in batches that do not fit."""
    shape, length = (SMALL, 16) if setting.small else (LARGER, LENGTH)
    body = random_llama(shape, setting.device, torch.float32)
    questions = examples(
        arguments([f"--words={shape.words}", f"--length={length}", f"--prompts={MANY}", "--labels", "4", "2"])
    )
    encoder = PromptEncoder(body, {})
    free(setting.device)
    expected = score(encoder, questions, FEW)
    texts = generate(encoder, questions, FEW, 8)
    rows: list[int] = []
    with limited(setting, body), counted(body, rows):
        report.check("a pass over all prompts is out of memory", _fails(body, questions), "", "torch.OutOfMemoryError")
        free(setting.device)
        rows.clear()
        with report.attempt("scoring goes on in smaller batches"):
            measured = score(encoder, questions, MANY)
            error = float((measured.loglik - expected.loglik).norm() / expected.loglik.norm())
            report.check("scores after halving", error <= 1e-4, error, "<= 1e-4")
            report.check("the last batch is smaller", rows[-1] < MANY, rows[-1], f"< {MANY} rows")
            report.row("Rows of the passes", of="scoring", batch=MANY, rows=" ".join(map(str, dict.fromkeys(rows))))
        free(setting.device)
        rows.clear()
        with report.attempt("generation goes on in smaller batches"):
            generated = generate(encoder, questions, MANY, 8)
            equal_texts = sum(a == b for a, b in zip(generated, texts, strict=True))
            report.check("the last batch of generation is smaller", rows[-1] < MANY, rows[-1], f"< {MANY} rows")
            report.check(
                "texts after halving", equal_texts >= 0.9 * MANY, f"{equal_texts} equal", f"at least 9 in 10 of {MANY}"
            )
            report.row("Rows of the passes", of="generation", batch=MANY, rows=" ".join(map(str, dict.fromkeys(rows))))


@contextmanager
def limited(setting: Setting, body: Backbone) -> Iterator[None]:
    """A block in which a large batch is out of memory."""
    if setting.on_gpu:
        peak, total = torch.cuda.max_memory_reserved(), torch.cuda.get_device_properties(0).total_memory
        free(setting.device)
        torch.cuda.set_per_process_memory_fraction(min(1.0, ROOM * peak / total))
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        return

    def refuse(module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if len(kwargs["inputs_embeds"]) > 2 * FEW:
            raise torch.OutOfMemoryError(f"{len(kwargs['inputs_embeds'])} rows are more than {2 * FEW}")

    handle = body.model.register_forward_pre_hook(refuse, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def counted(body: Backbone, rows: list[int]) -> Iterator[None]:
    """A block in which the rows of every pass are noted."""
    handle = body.model.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(kwargs["inputs_embeds"])), with_kwargs=True
    )
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def _fails(body: Backbone, questions: Any) -> bool:
    try:
        for batch in collated(body, questions, MANY):
            body.model(inputs_embeds=batch.embeds, attention_mask=batch.mask, position_ids=batch.positions())
    except torch.OutOfMemoryError:
        return True
    return False
