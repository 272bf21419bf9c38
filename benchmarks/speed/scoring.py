"""Examples per second of label scoring, beside generation and beside one bare forward pass over the same tokens.

    python -m benchmarks.speed.scoring --out benchmarks/results/scoring_speed.csv

The model is a random Llama at the shape of SmolLM2-135M; --layers and --hidden make it smaller. With --shared all
prompts begin with the same text, as the questions of a benchmark do: scoring reads it once, ``whole`` is scoring that
is not told so. ``sliced`` is scoring whose head is given a slice of the last layer, as transformers gives it. Plain
generation takes one prompt at a time, ``batched`` the batches that scoring takes. All are timed in turns, medians
count, and a row is appended to the CSV.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from benchmarks.speed.flops import counted, per_second
from benchmarks.speed.models import add_model_arguments, backbone
from benchmarks.speed.rows import append, facts
from transformers import GenerationConfig

from esmerge.core.progress import progress
from esmerge.core.prompts import Example
from esmerge.model.backbone import Backbone
from esmerge.model.batching import batches
from esmerge.model.prompt_encoder import Batch, EncodedPrompt, PromptEncoder
from esmerge.model.scoring import score

AT_LEAST, AT_MOST = 5.0, 1.3  # what is aimed at: of generation's throughput, of the bare pass's time
CONTENDERS = ("scoring", "whole", "sliced", "generate", "batched", "forward")


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_arguments(parser, "float32", checkpoint=False)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--length", type=int, default=128, help="tokens of the longest prompt; the shortest has 3/4")
    parser.add_argument("--shared", type=int, default=0, help="tokens of each prompt that all begin with")
    parser.add_argument("--labels", type=int, nargs="+", default=[4, 2], help="tokens of each label")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--new-tokens", type=int, default=16, help="that generation writes")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(argv)
    if not 0 <= options.shared < options.length * 3 // 4:
        parser.error(
            f"--shared {options.shared}: expected less than the shortest prompt's {options.length * 3 // 4} tokens"
        )
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, append."""
    options = arguments(argv)
    torch.set_num_threads(options.threads)
    body = backbone(options)
    questions = examples(options)
    works = contenders(options, body, questions)
    row = {**facts(options), **measure(works, options.repeats, len(questions)), **floor(works, options)}
    print(report(row))
    if options.out:
        append(options.out, row)
    return 0


def examples(options: argparse.Namespace) -> list[Example]:
    """Prompts of random words and of different lengths; labels that differ from their first token on."""
    generator = torch.Generator().manual_seed(options.seed)

    def text(words: int) -> str:
        return " ".join(map(str, torch.randint(1, options.words, (words,), generator=generator).tolist()))

    start = (f"{text(options.shared)} ",) if options.shared else ()
    labels = tuple(f"{first} {text(words - 1)}".strip() for first, words in enumerate(options.labels, start=1))
    lengths = torch.linspace(options.length * 3 / 4, options.length, options.prompts).round().int() - options.shared
    order = torch.randperm(options.prompts, generator=generator)
    return [Example(str(i), (*start, text(int(length))), labels, 0) for i, length in enumerate(lengths[order])]


def contenders(
    options: argparse.Namespace, body: Backbone, questions: Sequence[Example]
) -> dict[str, Callable[[], object]]:
    """What is timed: scoring as a sweep does it; the others on batches that are ready."""
    single, prompts = (list(collated(body, questions, size)) for size in (1, options.batch_size))
    labelled_batches = list(collated(body, questions, options.batch_size, with_labels=True))
    settings = GenerationConfig(max_new_tokens=options.new_tokens, do_sample=False, pad_token_id=0)

    def generate(group: Sequence[Batch]) -> None:
        for batch in group:
            body.model.generate(inputs_embeds=batch.embeds, attention_mask=batch.mask, generation_config=settings)

    def forward() -> None:
        for batch in labelled_batches:
            body.model(
                inputs_embeds=batch.embeds,
                attention_mask=batch.mask,
                position_ids=batch.positions(),
                logits_to_keep=1,
                use_cache=False,
            )

    def scoring(group: Sequence[Example]) -> None:
        score(PromptEncoder(body, {}), group, options.batch_size)

    def sliced() -> None:
        hooks = body.model.get_output_embeddings()._forward_pre_hooks
        original_hooks = dict(hooks)
        hooks.clear()
        try:
            scoring(questions)
        finally:
            hooks.update(original_hooks)

    joined = [replace(question, prompt=("".join(map(str, question.prompt)),)) for question in questions]
    works = (
        lambda: scoring(questions),
        lambda: scoring(joined),
        sliced,
        lambda: generate(single),
        lambda: generate(prompts),
        forward,
    )
    return dict(zip(CONTENDERS, works, strict=True))


def collated(
    body: Backbone, questions: Sequence[Example], batch_size: int, with_labels: bool = False
) -> Iterator[Batch]:
    """The batches that scoring makes; on request, each prompt is followed by all that scoring reads of its labels."""
    prompt_encoder = PromptEncoder(body, {})
    for group in batches(prompt_encoder, questions, batch_size):
        encoded = [question.prompt for question in group]
        if with_labels:
            encoded = [
                _extended(
                    question.prompt, [i for label in question.example.labels for i in prompt_encoder.tokens(label)[:-1]]
                )
                for question in group
            ]
        yield prompt_encoder.collate(encoded, side="left")


def _extended(prompt: EncodedPrompt, tokens: Sequence[int]) -> EncodedPrompt:
    return replace(prompt, ids=[*prompt.ids, *tokens], targets=[*prompt.targets, *tokens])


@torch.no_grad()
def measure(works: dict[str, Callable[[], object]], repeats: int, count: int) -> dict[str, float]:
    """Median seconds and examples per second of each, and the ratios; each is done once before it is timed."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    with progress("scoring speed", (1 + repeats) * len(works)) as bar:
        for turn in range(1 + repeats):
            for name, work in works.items():
                spent = _timed(work)
                if turn:
                    seconds[name].append(spent)
                bar.update()
    median = {name: statistics.median(spent) for name, spent in seconds.items()}
    return {
        **{f"{name}_seconds": round(spent, 4) for name, spent in median.items()},
        **{f"{name}_per_second": round(count / spent, 3) for name, spent in median.items()},
        "faster_than_generate": round(median["generate"] / median["scoring"], 3),
        "faster_than_batched": round(median["batched"] / median["scoring"], 3),
        "faster_than_whole": round(median["whole"] / median["scoring"], 3),
        "faster_than_sliced": round(median["sliced"] / median["scoring"], 3),
        "times_forward": round(median["scoring"] / median["forward"], 3),
    }


@torch.no_grad()
def floor(works: dict[str, Callable[[], object]], options: argparse.Namespace) -> dict[str, float]:
    """Operations of the bare pass, and the seconds that they take at the speed of a large matrix product."""
    flop = counted(works["forward"])
    return {"flop": flop, "floor_seconds": round(flop / per_second(options.device, getattr(torch, options.dtype)), 4)}


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def report(row: dict[str, object]) -> str:
    """The row in words."""
    lines = [
        f"{name:9}{row[f'{name}_seconds']:>10} s {row[f'{name}_per_second']:>10} examples/s" for name in CONTENDERS
    ]
    return "\n".join(
        [
            f"{row['prompts']} prompts of up to {row['length']} tokens, labels of {row['labels']} tokens, batches of "
            f"{row['batch_size']}, {row['layers']} layers of width {row['hidden']}, {row['threads']} threads",
            *lines,
            f"scoring / generate of {row['new_tokens']} tokens: {row['faster_than_generate']} times as many examples "
            f"(aim: at least {AT_LEAST:g}), {row['faster_than_batched']} times if it is batched",
            f"scoring / the same without reading the {row['shared']} tokens that all prompts begin with once: "
            f"{row['faster_than_whole']} times as many examples",
            f"scoring / the same with the head given a slice: {row['faster_than_sliced']} times as many examples",
            f"floor: {float(str(row['flop'])) / 1e9:.1f} GFLOP, {row['floor_seconds']} s",
            f"scoring / bare forward pass: {row['times_forward']} times the seconds (aim: at most {AT_MOST:g})",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
