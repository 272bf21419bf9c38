"""Examples per second of label scoring and of generation at Llama-3.1-8B's shapes, beside a bare forward pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from benchmarks.gpu.models import LLAMA_8B, SMALL, Shape, random_llama
from benchmarks.gpu.report import Report
from benchmarks.gpu.setting import Setting, free, synchronize
from benchmarks.speed.scoring import arguments, collated, examples

from esmerge.core.prompts import Example
from esmerge.model.backbone import Backbone
from esmerge.model.generation import generate
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.model.scoring import score

TABLE, AIM = "Examples per second", 5.0
LEAST = 64  # examples that are timed
GAIN = 1.03  # of a doubled batch, below which batches grow no further


@dataclass(frozen=True)
class Sizes:
    """What is scored.

    Attributes:
        shape: of the backbone.
        length: tokens of the longest prompt.
        first, last: batch sizes.
        plain: examples that are generated one at a time.
        new_tokens: that generation writes.
    """

    shape: Shape
    length: int
    first: int
    last: int
    plain: int
    new_tokens: int


FULL_SIZES = Sizes(LLAMA_8B, 200, 8, 512, 6, 16)
SMALL_SIZES = Sizes(SMALL, 16, 2, 8, 3, 8)


@torch.no_grad()
def run(setting: Setting, report: Report) -> None:
    """Scoring at growing batch sizes, generation, and the bare pass."""
    sizes = SMALL_SIZES if setting.small else FULL_SIZES
    body = random_llama(sizes.shape, setting.device, torch.bfloat16)
    questions = make_questions(sizes)
    score(PromptEncoder(body, {}), questions[: sizes.first], sizes.first)  # loads kernels
    rates: dict[int, float] = {}
    with report.attempt("scoring"):
        rates = _growing(setting, report, sizes, body, questions)
    batch = max(rates, key=lambda size: rates[size]) if rates else sizes.first
    sample = questions[: max(2 * batch, LEAST)]
    with report.attempt("a bare forward pass"):
        work = _forward(body, sample, batch)
        work()
        bare = _rate(setting, len(sample), work)
        _tell(report, "bare forward pass over the same tokens", batch, bare)
        if rates:
            report.row("Ratios", of="bare forward pass / scoring, examples per second", ratio=bare / rates[batch])
    plain_questions = questions[: sizes.plain]
    one_batch = questions[:batch]
    for title, group, size in (
        ("generation, one at a time", plain_questions, 1),
        ("generation, batched", one_batch, batch),
    ):
        with report.attempt(title):
            _generate(body, group[:size], size, sizes.new_tokens)
            rate = _rate(setting, len(group), partial(_generate, body, group, size, sizes.new_tokens))
            _tell(report, f"{title}, {sizes.new_tokens} tokens", size, rate)
            if rates:
                ratio = rates[batch] / rate
                report.row("Ratios", of=f"scoring / {title}", ratio=ratio)
                if size == 1:
                    report.goal("scoring / generation, examples per second", f"{ratio:.1f}", ">= 5", ratio >= AIM)
                else:
                    report.goal("scoring / batched generation", f"{ratio:.1f}", ">= 5", ratio >= AIM)


def make_questions(sizes: Sizes) -> list[Example]:
    """Random prompts of unequal length with two labels of four and two tokens."""
    options = [f"--words={sizes.shape.words}", f"--length={sizes.length}", f"--prompts={2 * sizes.last}"]
    return examples(arguments([*options, "--labels", "4", "2"]))


def _growing(
    setting: Setting, report: Report, sizes: Sizes, body: Backbone, questions: Sequence[Example]
) -> dict[int, float]:
    """Batch size -> examples per second: doubled until it is out of memory or gains nothing."""
    rates: dict[int, float] = {}
    size, best = sizes.first, 0.0
    while size <= sizes.last and (setting.left() > setting.seconds / 2 or not rates):
        group = questions[: max(2 * size, LEAST)]
        try:
            _score(body, questions[:size], size)  # the first batch of a size loads kernels
            rate = _rate(setting, len(group), partial(_score, body, group, size))
        except torch.OutOfMemoryError:
            report.note(f"Scoring in batches of {size} is out of memory.")
            free(setting.device)
            break
        _tell(report, "label log-likelihood", size, rate)
        rates[size] = rate
        if rate < GAIN * best:
            break
        best, size = max(best, rate), 2 * size
    return rates


def _score(body: Backbone, questions: Sequence[Example], batch: int) -> None:
    score(PromptEncoder(body, {}), questions, batch)


def _generate(body: Backbone, questions: Sequence[Example], batch: int, new_tokens: int) -> None:
    generate(PromptEncoder(body, {}), questions, batch, new_tokens)


def _forward(body: Backbone, questions: Sequence[Example], batch: int) -> Callable[[], object]:
    """A pass over the tokens that scoring reads, batches ready."""
    ready = list(collated(body, questions, batch, with_labels=True))

    def work() -> None:
        for item in ready:
            body.model(
                inputs_embeds=item.embeds, attention_mask=item.mask, position_ids=item.positions(),
                logits_to_keep=1, use_cache=False,
            )  # fmt: skip

    return work


def _rate(setting: Setting, count: int, work: Callable[[], object]) -> float:
    synchronize(setting.device)
    if setting.on_gpu:
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    work()
    synchronize(setting.device)
    return count / (time.perf_counter() - start)


def _tell(report: Report, title: str, batch: int, rate: float) -> None:
    peak = torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else None
    report.row(TABLE, what=title, batch=batch, per_second=rate, peak_GB=peak)
