"""Memory of estimating coefficients as the number of experts grows: tensors alive, counted byte by byte.

    python -m benchmarks.speed.experts --experts 2 3 6

A random Llama with random adapters, from adapters in memory to joint coefficients, signals on disk, as a sweep does it.
``peak`` is beyond backbone and adapters; ``copies`` is what a copy of the backbone for each expert, and one without
any, would hold alone. Each expert adds its factors once more, attached to the backbone, and as many coefficients.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import pandas as pd
import torch
from benchmarks.speed import coefficients
from benchmarks.speed.alive import Alive
from benchmarks.speed.probing import Case, ours

MIB = 2**20


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experts", type=int, nargs="+", default=[2, 3, 6])
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--words", type=int, default=500)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--probes", type=int, default=16)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--modalities", type=int, default=2)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = arguments(argv)
    torch.set_num_threads(1)
    rows = [measured(case(options, experts)) for experts in options.experts]
    print(pd.DataFrame(rows).round(2).to_string(index=False))
    if len(rows) > 1:
        print(f"each expert adds {added(rows[0], rows[-1]):.2f} times its adapter to the peak")
    return 0


def added(fewer: dict[str, float], more: dict[str, float]) -> float:
    """What one expert more adds to the peak, in sizes of its adapter."""
    growth = (more["peak"] - fewer["peak"]) / (more["experts"] - fewer["experts"])
    return growth * more["experts"] / more["adapters"]


def case(options: argparse.Namespace, experts: int) -> Case:
    """Experts and prompts of the given sizes."""
    names = ("layers", "hidden", "words", "rank", "probes", "length", "modalities")
    words = [part for name in names for part in (f"--{name}", str(getattr(options, name)))]
    return coefficients.case(coefficients.arguments([*words, "--experts", str(experts), "--threads", "1"]))


def measured(work: Case) -> dict[str, float]:
    """MiB of the backbone, of all adapters, of the peak beyond both, and of N + 1 backbones."""
    model = work.specialists.backbone.model
    weights = [*model.parameters(), *model.buffers()]
    factors = [tensor for state in work.specialists.adapters.values() for tensor in state.tensors().values()]
    with Alive([*weights, *factors]) as alive:
        ours(work)
    backbone, adapters = (sum(tensor.nbytes for tensor in tensors) / MIB for tensors in (weights, factors))
    peak = alive.peak / MIB
    return {
        "experts": len(work.specialists.adapters),
        "backbone": backbone,
        "adapters": adapters,
        "peak": peak,
        "copies": (1 + len(work.specialists.adapters)) * backbone,
    }


if __name__ == "__main__":
    sys.exit(main())
