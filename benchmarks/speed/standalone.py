"""Seconds and peak memory of ``python -m src.merge`` on adapters as large as you like.

Each merge stands beside a run that only starts and beside a copy of the adapters, both made right before it: beyond its
start, a merge has read what the copy reads, and written as much or less.

    python -m benchmarks.speed.standalone --rank 256 --folder /tmp/large

Adapters are random and made on disk module by module; the backbone is a config without weights, which merges without a
probe never read.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from benchmarks.speed.inputs import SHAPES, Adapters
from rich.filesize import decimal
from transformers import LlamaConfig

from esmerge.adapters.header import ModuleHeader
from esmerge.adapters.lora import LazyModules, LoraFactors, LoraState
from esmerge.adapters.peft_folder import WEIGHTS, save_adapter
from esmerge.core.torch_rng import torch_generator

METHODS = ("average", "average@delta", "task_arithmetic", "robust_merge")
SCALE = 2.0  # of every LoRA module


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", choices=SHAPES, default="llama-3.1-8b", help="whose linear layers are adapted")
    parser.add_argument("--experts", type=int, default=3)
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument("--methods", default=",".join(METHODS), help="name or name@space, separated by commas")
    parser.add_argument("--folder", type=Path, help="where the adapters go for a while; a temporary folder by default")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Make the adapters, merge them by each method, print a table; 1 if a merge failed."""
    options = arguments(argv)
    adapters = Adapters(options.shapes, SHAPES[options.shapes].layers, options.experts, options.rank, options.dtype)
    print(f"{adapters.experts} adapters of rank {adapters.rank}, together {decimal(adapters.size())}\n")
    print(HEAD)
    failed = 0
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        command = make(adapters, folder)
        for method in options.methods.split(","):
            name, _, space = method.partition("@")
            copied, start = copy(folder), run(START)
            merge = run([*command, f"method={name}", *([f"merge_space={space}"] if space else []), "overwrite=true"])
            failed |= merge.code
            print(row(method, merge, start, copied), flush=True)
    return failed


HEAD = (
    "| method | seconds | of these a start | a copy, synced | beyond a start / copy | CPU beyond a start "
    "| peak memory | beyond a start |\n|---|" + "---:|" * 7
)
START = (sys.executable, "-c", "import esmerge.cli.merge, esmerge.probe.variants.text, transformers.models.llama")


@dataclass(frozen=True)
class Run:
    """A finished process: exit code, seconds on the clock, seconds of CPU, bytes at the peak."""

    code: int
    seconds: float
    cpu: float
    memory: int


def row(method: str, merge: Run, start: Run, copied: float) -> str:
    """A line of the table."""
    cells = [
        method,
        f"{merge.seconds:.1f}",
        f"{start.seconds:.1f}",
        f"{copied:.1f}",
        f"{(merge.seconds - start.seconds) / copied:.2f}",
        f"{merge.cpu - start.cpu:.1f}",
        decimal(merge.memory),
        decimal(max(0, merge.memory - start.memory)),
    ]
    return f"| {' | '.join(cells)} |"


def copy(folder: Path) -> float:
    """Seconds that ``cp`` of all adapters takes until they are on the disk; the copies are removed."""
    adapters = sorted(folder.glob(f"*/{WEIGHTS}"))
    copies = [folder / f"copy{number}" for number in range(len(adapters))]
    clock = time.perf_counter()
    for source, target in zip(adapters, copies, strict=True):
        subprocess.run(["cp", source, target], check=True)
    for target in copies:
        with target.open("rb") as file:
            os.fsync(file.fileno())
    seconds = time.perf_counter() - clock
    for target in copies:
        target.unlink()
    return seconds


def run(command: Sequence[str]) -> Run:
    """Run a command in a process of its own, by way of one more that only waits and measures its child."""
    measure = (
        "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL); "
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); "
        "print(code, used.ru_maxrss, used.ru_utime + used.ru_stime)"
    )
    clock = time.perf_counter()
    process = subprocess.run([sys.executable, "-c", measure, *command], capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - clock
    code, peak, cpu = process.stdout.split()
    if int(code):
        print(process.stderr, file=sys.stderr)
    return Run(int(code), seconds, float(cpu), int(peak) * (1 if sys.platform == "darwin" else 1024))


def make(adapters: Adapters, folder: Path) -> list[str]:
    """Write the backbone's config and the adapters; returns the command that merges them."""
    hidden = SHAPES[adapters.shapes].hidden
    narrow = adapters.modules()[next(m for m in adapters.modules() if m.endswith("k_proj"))][0]
    wide = adapters.modules()[next(m for m in adapters.modules() if m.endswith("up_proj"))][0]
    head = math.gcd(hidden, narrow)
    LlamaConfig(
        hidden_size=hidden,
        intermediate_size=wide,
        num_hidden_layers=adapters.layers,
        num_attention_heads=hidden // head,
        num_key_value_heads=narrow // head,
        head_dim=head,
        vocab_size=100,
        dtype=adapters.dtype,
    ).save_pretrained(folder / "backbone")
    names = [f"expert{number}" for number in range(adapters.experts)]
    for name in names:
        save_adapter(drawn(adapters, name), folder / name, str(folder / "backbone"))
    experts = [f"experts.{name}={folder / name}" for name in names]
    return [sys.executable, "-m", "src.merge", f"backbone={folder / 'backbone'}", *experts, f"out={folder / 'out'}"]


def drawn(adapters: Adapters, name: str) -> LoraState:
    """An expert whose factors are drawn when they are asked for."""
    shapes, dtype = adapters.modules(), getattr(torch, adapters.dtype)

    def factors(module: str) -> LoraFactors:
        draw = torch_generator(0, name, module)
        a = 0.02 * torch.randn(adapters.rank, shapes[module][1], generator=draw)
        b = 0.02 * torch.randn(shapes[module][0], adapters.rank, generator=draw)
        return LoraFactors(a.to(dtype), b.to(dtype), SCALE)

    header = {
        module: ModuleHeader(adapters.rank, width, height, dtype, dtype, SCALE)
        for module, (height, width) in shapes.items()
    }
    return LoraState(LazyModules(header, factors, header))


if __name__ == "__main__":
    sys.exit(main())
