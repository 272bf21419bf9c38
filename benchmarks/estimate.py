"""What the paper's experiments take on one GPU: questions, positions, floating-point operations, hours, memory.

    python -m benchmarks.estimate --root ../shared/data
    python -m benchmarks.estimate --root ../shared/data --tokenizer DIR paper_cyp

Nothing is run and no weight is loaded. Runs are those that each experiment's config plans, questions those of its
tables; positions are soft tokens (8 for a molecule, residues + 2 for a protein) and words, which ``--tokenizer``
counts and bytes estimate without it. Operations are counted by torch on Llama-3.1-8B's shapes. How many an H100
does in a second, and how long it writes a token, come from ``benchmarks/results/gpu.md``. An estimate until it is run.
"""

from __future__ import annotations

import argparse
import itertools
import re
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from benchmarks.gpu.models import LLAMA_8B, RANK
from benchmarks.gpu.scoring import FULL_SIZES
from benchmarks.speed.flops import counted
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from transformers import AutoTokenizer, LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from esmerge.core.errors import BenchError
from esmerge.core.paths import CONF
from esmerge.core.prompts import Entity, Example, PromptSegment
from esmerge.experiment.config import Sweep, read_sweep
from esmerge.experiment.plan import plan_runs
from esmerge.model.attach import init_lora
from esmerge.model.prompt_encoder import text_of
from esmerge.specialists.families.custom.settings import open_experts_node
from esmerge.tasks.load import load_benchmark

EXPERIMENTS = (
    "paper_molecule_protein",
    "paper_molecule_cell",
    "paper_cyp",
    "paper_retention",
    "ablation_granularity",
    "ablation_probe",
    "ablation_temperature",
)
PATHS = ["specialists.backbone=DIR", *(f"specialists.experts.{name}=DIR" for name in ("molecule", "protein", "cell"))]
PROBE = ["specialists.pool=FILE"]
MEASURED = Path(__file__).parent / "results" / "gpu.md"
MOLECULE, AROUND = 8, 2  # soft tokens of a molecule; of a protein beside its residues
BYTES = 3.0  # of a token of text, where no tokenizer counts
NEW_TOKENS, SAMPLE, GIGA = 512, 200, 1e9
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
WIDTH = 2  # bytes of a bfloat16

Positions = Callable[[PromptSegment], int]


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="*", default=list(EXPERIMENTS))
    parser.add_argument("--root", required=True, help="folder with the benchmarks' tables")
    parser.add_argument("--tokenizer", help="folder or hub id of Llama-3.1-8B-Instruct's tokenizer")
    parser.add_argument(
        "--sample", type=int, default=SAMPLE, help="questions of a benchmark whose positions are counted"
    )
    options = parser.parse_args(argv)
    if unknown := [name for name in options.experiments if name not in EXPERIMENTS]:
        parser.error(f"{', '.join(unknown)}: expected some of {', '.join(EXPERIMENTS)}")
    if not Path(options.root).is_dir():
        parser.error(f"--root {options.root}: there is no such folder; give the one that holds the benchmarks' tables")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Count and print, one row per experiment."""
    options = arguments(argv)
    torch.set_num_threads(1)
    open_experts_node()
    measure = Measure(positions(options.tokenizer), options.root, options.sample)
    for number, name in enumerate(options.experiments):
        cells = measure.row(name)
        if not number:
            print(f"| {' | '.join(cells)} |\n|---{'|---:' * (len(cells) - 1)}|")
        print(f"| {' | '.join(map(str, cells.values()))} |", flush=True)
    for line in measure.remarks:
        print(f"- {line}")
    return 0


def positions(tokenizer: str | None) -> Positions:
    """Segment -> how many positions it takes."""
    words = None if tokenizer is None else AutoTokenizer.from_pretrained(tokenizer)

    @cache
    def text(value: str) -> int:
        return round(len(value.encode()) / BYTES) if words is None else len(words(value, add_special_tokens=False)[0])

    def of(segment: PromptSegment) -> int:
        if isinstance(segment, Entity) and segment.modality == "molecule":
            return MOLECULE
        if isinstance(segment, Entity) and segment.modality == "protein":
            return len(segment.value) + AROUND
        return text(text_of(segment))

    return of


@dataclass(frozen=True)
class Asked:
    """A benchmark's questions.

    Attributes:
        count: of the test split.
        lengths: positions of some of them, with solved examples and labels.
        entities: distinct molecules, and residues of distinct proteins, that an encoder perceives.
    """

    count: int
    lengths: tuple[int, ...]
    entities: tuple[int, int]


class Measure:
    """Counts experiments; what two of them ask alike is counted once.

    Args:
        positions: of a segment.
        root: of the tables.
        sample: questions of a benchmark whose positions are counted.
    """

    def __init__(self, positions: Positions, root: str, sample: int) -> None:
        self.positions, self.root, self.sample = positions, root, sample
        self.remarks: list[str] = []
        self._asked: dict[str, Asked] = {}

    def row(self, experiment: str) -> dict[str, object]:
        """An experiment's runs, questions, positions, operations, hours and memory."""
        configs = list(composed(experiment))
        sweeps = [read_sweep(config) for config in configs]
        specs = {spec.name: spec for sweep in sweeps for spec in plan_runs(sweep) if spec.uses_model}
        runs = len(specs)
        benchmarks = [
            benchmark for name in sweeps[0].suite_request().names if (benchmark := self.asked(sweeps[0], name))
        ]
        batch = sweeps[0].compute.batch_size
        total, operations = sum(benchmark.count for benchmark in benchmarks), 0.0
        if any(spec.info.finetuned for spec in specs.values()):
            lengths = [length for benchmark in benchmarks for length in benchmark.lengths]
            self.remarks.append(f"{experiment}: {training(configs[0].specialists.finetuning, lengths)}")
        for benchmark in benchmarks:
            operations += runs * benchmark.count * statistics.fmean(map(of_prompt(), benchmark.lengths))
        mean = sum(benchmark.count * statistics.fmean(benchmark.lengths) for benchmark in benchmarks) / total
        longest = max(length for benchmark in benchmarks for length in benchmark.lengths)
        scoring_seconds = operations / per_second()
        writing_seconds = (
            scoring_seconds
            + runs * sum(-(-benchmark.count // batch) for benchmark in benchmarks) * NEW_TOKENS * seconds_a_token()
        )
        return {
            "experiment": experiment,
            "runs": runs,
            "questions": total,
            "positions, mean": round(mean),
            "longest": longest,
            "PFLOP": round(operations / 1e15),
            "hours, labels scored": round(scoring_seconds / 3600, 1),
            "hours, 512 tokens written": round(writing_seconds / 3600, 1),
            "GPU GB": round(memory(batch, longest), 1),
            "cache GB": round(encodings(benchmarks), 1),
        }

    def asked(self, sweep: Sweep, name: str) -> Asked | None:
        """What a benchmark asks; None, with a remark, where its table is not there."""
        key = f"{name} {sorted(sweep.benchmark.items(), key=str)}"
        if key not in self._asked:
            try:
                self._asked[key] = self._count(sweep, name)
            except BenchError as error:
                self.remarks.append(f"{name} is left out: {error}")
                return None
        return self._asked[key]

    def _count(self, sweep: Sweep, name: str) -> Asked:
        request = sweep.suite_request()
        shared = {**request.overrides, "root": self.root}

        def load(**changes: object) -> Sequence[Example]:
            changed_request = type(request)((name,), {**shared, **changes}, request.language, request.seed)
            return load_benchmark(changed_request, name).test

        examples = load(shots=0)
        sample = load(limit=min(self.sample, len(examples)))
        lengths = (
            sum(map(self.positions, example.prompt)) + sum(map(self.positions, example.labels)) for example in sample
        )
        molecules = {entity.value for example in examples for entity in example.entities("molecule")}
        proteins = {entity.value for example in examples for entity in example.entities("protein")}
        return Asked(len(examples), tuple(lengths), (len(molecules), sum(map(len, proteins))))


def composed(experiment: str) -> Iterator[DictConfig]:
    """The config of each of an experiment's jobs, with paths that are not there."""
    words = [f"experiment={experiment}", *PATHS, *PROBE]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        params = compose("sweep", words, return_hydra_config=True).hydra.sweeper.params or {}
        axes = [[f"{key}={value}" for value in str(values).split(",")] for key, values in params.items()]
        for changes in itertools.product(*axes):
            yield compose("sweep", [*words, *changes])


@cache
def _decoder_layer(attention: str) -> LlamaDecoderLayer:
    """A decoder layer of Llama-3.1-8B's shapes in bfloat16, with an implementation of attention."""
    config = LlamaConfig(
        hidden_size=LLAMA_8B.hidden,
        intermediate_size=LLAMA_8B.intermediate,
        num_attention_heads=LLAMA_8B.heads,
        num_key_value_heads=LLAMA_8B.key_value_heads,
        attn_implementation=attention,
    )
    return LlamaDecoderLayer(config, 0).to(torch.bfloat16)


def of_prompt() -> Callable[[int], float]:
    """Positions of a prompt -> operations of reading it: counted at two lengths, and a parabola through them.

    The head is left out: it is asked at a label's few positions.
    """
    shape = LLAMA_8B
    with torch.device("meta"):
        layer = _decoder_layer("eager")

    def count(length: int) -> float:
        hidden = torch.empty(1, length, shape.hidden, device="meta", dtype=torch.bfloat16)
        turned = torch.empty(1, length, shape.hidden // shape.heads, device="meta", dtype=torch.bfloat16)
        return shape.layers * counted(lambda: layer(hidden, position_embeddings=(turned, turned)))

    short, long = 256, 1024
    square = (count(long) / long - count(short) / short) / (long - short)
    linear = count(short) / short - square * short
    return lambda length: linear * length + square * length**2


def measured(title: str) -> float:
    """Examples per second of a row of gpu.md's table of scoring, at the largest batch."""
    rows = re.findall(rf"^\| {re.escape(title)} \| (\d+) \| ([\d.]+) \|", MEASURED.read_text(encoding="utf-8"), re.M)
    return float(max(rows, key=lambda row: int(row[0]))[1])


def per_second() -> float:
    """Operations per second of label scoring on an H100."""
    mean = round(FULL_SIZES.length * 7 / 8) + 4  # prompts of 3/4 of the length to all of it, and what is read of labels
    return measured("label log-likelihood") * of_prompt()(mean)


def seconds_a_token() -> float:
    """Seconds in which a batch writes a token: those of one text alone, since the host and the weights decide."""
    return 1 / (measured(f"generation, one at a time, {FULL_SIZES.new_tokens} tokens") * FULL_SIZES.new_tokens)


def memory(batch: int, longest: int) -> float:
    """GB of weights, of keys and values of a batch of the longest prompts, and of one layer's activations."""
    shape = LLAMA_8B
    head = shape.hidden // shape.heads
    layer = (
        2 * shape.hidden**2 + 2 * shape.hidden * shape.key_value_heads * head + 3 * shape.hidden * shape.intermediate
    )
    weights = shape.layers * layer + 2 * shape.words * shape.hidden
    keys_and_values = 2 * shape.layers * shape.key_value_heads * head * batch * longest
    layer_activations = (4 * shape.hidden + 2 * shape.intermediate) * batch * longest
    return WIDTH * (weights + keys_and_values + layer_activations) / GIGA


def training(finetuning: DictConfig, lengths: Sequence[int]) -> str:
    """What fine-tuning on each benchmark takes, in words; layers compute their activations again on the way back."""
    shape, batch = LLAMA_8B, int(finetuning.batch)
    inputs, inside = WIDTH * shape.hidden, kept_by_a_layer()
    mean, largest = (
        batch * length * (shape.layers * inputs + inside) / GIGA for length in (statistics.fmean(lengths), max(lengths))
    )
    return (
        f"fine-tuning is {finetuning.steps} steps of {batch} prompts for each benchmark; a step keeps {mean:.0f} GB at "
        f"the mean length and {largest:.0f} GB at the longest: {inside / 1e3:.0f} kB a position in the layer that is "
        f"computed again, {inputs / 1e3:.1f} kB in each"
    )


@cache
def kept_by_a_layer(short: int = 256, long: int = 512) -> float:
    """Bytes a position that a decoder layer with adapters in all its linear layers keeps for its gradient, counted."""
    shape = LLAMA_8B
    layer = _decoder_layer("sdpa").requires_grad_(False)
    init_lora(layer, "trained", RANK, 32.0, TARGETS, 0)
    weights = {parameter.untyped_storage().data_ptr() for parameter in layer.parameters()}

    def count(length: int) -> int:
        sizes: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        hidden = torch.zeros(1, length, shape.hidden, dtype=torch.bfloat16, requires_grad=True)
        turned = torch.zeros(1, length, shape.hidden // shape.heads, dtype=torch.bfloat16)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            layer(hidden, position_embeddings=(turned, turned))
        return sum(size for address, size in sizes.items() if address not in weights)

    return (count(long) - count(short)) / (long - short)


def encodings(benchmarks: Sequence[Asked]) -> float:
    """GB of soft tokens in the cache, bfloat16."""
    rows = sum(
        molecules * MOLECULE + residues for molecules, residues in (benchmark.entities for benchmark in benchmarks)
    )
    return WIDTH * rows * LLAMA_8B.hidden / GIGA


if __name__ == "__main__":
    sys.exit(main())
