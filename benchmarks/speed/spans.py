"""Seconds and peak memory of span regression at a language model's shapes, from invented inputs at modality spans.

    python -m benchmarks.speed.spans --tokens 512 --rank 16 --threads 2
    python -m benchmarks.speed.spans --tokens 2048 --layers 1      # a sample of the layers, multiplied

Adapters and inputs lie on disk as ``python -m src.merge`` leaves them there: adapters as PEFT folders, inputs as
the cache holds them. The inputs of one layer stand for those of every layer, so that the disk need not hold them all.
What is measured is a process of its own that merges and writes the adapter module by module, beside one that only
starts. The probe's pass, which leaves the inputs, is not part of it.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from benchmarks.speed.inputs import SHAPES, Adapters
from benchmarks.speed.standalone import drawn, run
from torch import Tensor

from esmerge.adapters.experts import validate_experts
from esmerge.adapters.peft_folder import open_adapter, save_adapter, write_adapter
from esmerge.calibration.stored import load_statistics, save_statistics
from esmerge.calibration.types import Statistics
from esmerge.core.lazy import LazyMapping
from esmerge.core.torch_rng import torch_generator
from esmerge.merging.api import MERGES, MergeRequest
from esmerge.merging.run import merge

METHOD, MEASURE = "span_regression", "span_inputs"
LAYER = re.compile(r"(?<=\.layers\.)\d+")


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", choices=SHAPES, default="llama-3.1-8b", help="whose linear layers are adapted")
    parser.add_argument("--experts", type=int, default=3)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=512, help="of each expert: method.spans.limit")
    parser.add_argument("--layers", type=int, help="that are merged; all by default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where files go for a while; a temporary folder by default")
    parser.add_argument("--merge", action="store_true", help="merge what --folder holds, and measure nothing")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Invent, merge in a process of its own, print a line; 1 if the merge failed."""
    options = arguments(argv)
    depth = SHAPES[options.shapes].layers
    layers = min(options.layers or depth, depth)
    adapters = Adapters(options.shapes, layers, options.experts, options.rank, "bfloat16")
    if options.merge:
        merge_folder(options.folder, adapters, options.threads)
        return 0
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        invent(folder, adapters, options.tokens)
        command = [sys.executable, "-m", "benchmarks.speed.spans", "--folder", name, "--merge"]
        terms = {"shapes": options.shapes, "experts": options.experts, "rank": options.rank, "layers": layers}
        command += [word for key, value in terms.items() for word in (f"--{key}", str(value))]
        merged = run([*command, "--threads", str(options.threads)])
        start = run([sys.executable, "-c", "import benchmarks.speed.spans"])
    scaled = depth / layers
    print(
        f"{options.shapes}, {options.experts} adapters of rank {options.rank}, {options.tokens} tokens each, "
        f"{layers} of {depth} layers, {options.threads} threads: "
        f"{(merged.seconds - start.seconds) * scaled:.0f} s on the clock and {(merged.cpu - start.cpu) * scaled:.0f} s "
        f"of CPU for all layers; {merged.memory / 1e6:.0f} MB at the peak, "
        f"{(merged.memory - start.memory) / 1e6:.0f} MB beyond a start"
    )
    return merged.code


def invent(folder: Path, adapters: Adapters, tokens: int) -> None:
    """Write the adapters, and what the first layer's modules are given at the tokens of each expert."""
    names = [f"expert{number}" for number in range(adapters.experts)]
    for name in names:
        save_adapter(drawn(adapters, name), folder / name, adapters.shapes)
    first = {module: shape for module, shape in adapters.modules().items() if ".layers.0." in module}

    def rows(name: str) -> Mapping[str, Tensor]:
        def row(module: str) -> Tensor:
            return torch.randn(tokens, first[module][1], generator=torch_generator(0, name, module)) / tokens**0.5

        return LazyMapping(first, row)

    save_statistics({name: rows(name) for name in names}, folder)


def every_layer(measured: Statistics, adapters: Adapters) -> Statistics:
    """The first layer's inputs under the names of all modules."""

    def tensors(by_name: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return LazyMapping(adapters.modules(), lambda module: by_name[LAYER.sub("0", module)])

    return {name: tensors(by_name) for name, by_name in measured.items()}


def merge_folder(folder: Path, adapters: Adapters, threads: int) -> None:
    """What the front door does once the probe has been read."""
    torch.set_num_threads(threads)
    names = [f"expert{number}" for number in range(adapters.experts)]
    experts = validate_experts({name: open_adapter(folder / name, name) for name in names}, "delta")
    statistics = {MEASURE: every_layer(load_statistics(folder, whole=0), adapters)}
    out = folder / "merged"
    out.mkdir()
    with experts.reading():
        merged = merge(METHOD, MergeRequest(experts, "delta", statistics=statistics), MERGES.get(METHOD).settings())
        write_adapter(merged.state, out, METHOD, adapters.shapes)


if __name__ == "__main__":
    sys.exit(main())
