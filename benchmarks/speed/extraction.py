"""Seconds, peak memory and residual of ``python -m src.extract`` beside ``mergekit-extract-lora``, on random weights.

    python -m benchmarks.speed.extraction --shapes llama-3.1-8b --layers 1 --rank 64 --folder /tmp/large

The fine-tune is the backbone plus noise whose singular values fall off slowly, so that every truncation loses some.
Both are made on disk, in one shard a layer.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from benchmarks.speed.inputs import SHAPES, Shapes
from benchmarks.speed.standalone import Run, run
from rich.filesize import decimal
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig

MERGEKIT = "import sys; from mergekit.scripts.extract_lora import main; sys.argv[0] = 'mergekit-extract-lora'; main()"
HEAD = "| program | seconds | seconds of CPU | peak memory | residual |\n|---|" + "---:|" * 4


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", choices=SHAPES, default="smollm2-135m")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--folder", type=Path, help="where the checkpoints go for a while; a temporary one by default")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Make the checkpoints, extract by both programs, print a table; 1 if one failed."""
    options = arguments(argv)
    failed = 0
    print(HEAD)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        base, tuned = make(SHAPES[options.shapes], options.layers, Path(name))
        for program, command in commands(base, tuned, Path(name), options.rank).items():
            finished = run(command)
            failed |= finished.code
            print(row(program, finished, residual(base, tuned, Path(name) / program)), flush=True)
    return failed


def commands(base: Path, tuned: Path, root: Path, rank: int) -> dict[str, list[str]]:
    """Program -> its command; each writes into a folder of its name."""
    own = [f"backbone={base}", f"tuned={tuned}", f"out={root / 'esmerge'}", f"rank={rank}", "dtype=bfloat16"]
    mergekit_options = ["--model", tuned, "--base-model", base, "--out-path", root / "mergekit", "--max-rank", rank]
    mergekit_options += ["--include-regex", "_proj", "--skip-undecomposable"]
    return {
        "esmerge": [sys.executable, "-m", "src.extract", *own, "threads=null"],
        "mergekit": [sys.executable, "-c", MERGEKIT, *map(str, mergekit_options)],
    }


def make(shapes: Shapes, layers: int, root: Path) -> tuple[Path, Path]:
    """A random backbone and its fine-tune in bfloat16."""
    linear = shapes.linear
    heads = shapes.hidden // 64
    config = LlamaConfig(
        hidden_size=shapes.hidden,
        intermediate_size=linear["mlp.up_proj"][0],
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=linear["self_attn.k_proj"][0] // 64,
        head_dim=64,
        vocab_size=100,
        dtype="bfloat16",
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    state = model.state_dict()
    moved = {name: _moved(weight) if name.endswith("_proj.weight") else weight for name, weight in state.items()}
    for folder, tensors in ((root / "base", state), (root / "tuned", moved)):
        config.architectures = ["LlamaForCausalLM"]
        config.save_pretrained(folder)
        _save(tensors, folder)
    return root / "base", root / "tuned"


def residual(base: Path, tuned: Path, adapter: Path) -> float:
    """Share of the norm of all updates that the adapter's factors do not hold."""
    before, after = _load(base), _load(tuned)
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as file:
        factors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (no mapping)
    lost = total = 0.0
    for name in [name for name in before if name.endswith("_proj.weight")]:
        module = f"base_model.model.{name.removesuffix('.weight')}"
        update = after[name].float() - before[name].float()
        approximation = factors[f"{module}.lora_B.weight"] @ factors[f"{module}.lora_A.weight"]
        lost, total = lost + float((update - approximation).square().sum()), total + float(update.square().sum())
    return (lost / total) ** 0.5


def row(program: str, finished: Run, share: float) -> str:
    """One line of the table."""
    return f"| {program} | {finished.seconds:.1f} | {finished.cpu:.1f} | {decimal(finished.memory)} | {share:.4f} |"


def _moved(weight: Tensor) -> Tensor:
    """The weight plus an update of falling singular values."""
    rank = min(256, *weight.shape)
    fall = torch.arange(1, rank + 1).float().reciprocal().sqrt()
    update = (torch.randn(weight.shape[0], rank) * fall) @ torch.randn(rank, weight.shape[1])
    return (weight.float() + 0.01 * update / update.std()).bfloat16()


def _save(tensors: Mapping[str, Tensor], folder: Path) -> None:
    """One shard for each layer, and one for the rest."""
    shards: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        layer = next((part for part in name.split(".") if part.isdigit()), "rest")
        shards.setdefault(f"model-{layer}.safetensors", {})[name] = tensor.contiguous().clone()
    for file, shard in shards.items():
        save_file(shard, folder / file, {"format": "pt"})
    weight_map = {name: file for file, shard in shards.items() for name in shard}
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _load(folder: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as stored:
            tensors |= {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (no mapping)
    return tensors


if __name__ == "__main__":
    raise SystemExit(main())
