"""List a suite's benchmarks with their counts: ``python -m src.tasks root=../shared/data [suite=real] [seed=0]``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from src.config import choose, plain
from src.errors import BenchError, ConfigError
from src.specialists.pieces import Benchmark, Example
from src.tasks import SOURCES, Request
from src.tasks.assemble import whole
from src.tasks.load import COMMON

CONF = Path(__file__).parents[2] / "conf"
DEFAULTS = {"root": None, "suite": "real", "seed": 0, "language": "english", "limit": None}
HEADER = f"{'benchmark':<20}{'train':>16}{'validation':>16}{'test':>16}{'rejects':>9}{'seen in training':>30}  sha256"


def load(config: Any, options: Any) -> Benchmark:
    """One benchmark as its config says, its training and validation splits whole."""
    node = plain(config)
    own = {key: value for key, value in node.items() if key not in COMMON}
    chosen = choose(SOURCES, {**own, "name": config.source}, f"benchmark {config.name}")
    root = node.get("root") if options.root is None else options.root
    facts = {key: node[key] for key in ("name", "title", "family")}
    request = Request(language=options.language, seed=options.seed, limit=options.limit, root=root, **facts)
    return chosen.entry.function(whole(chosen.settings), request)  # type: ignore[no-any-return]


def line(benchmark: Benchmark) -> str:
    """Counts with the share of positive labels for each split, and how much of the test split training has seen."""
    splits = (_count(examples) for examples in (benchmark.train, benchmark.validation, benchmark.test))
    counts = "".join(f"{count:>16}" for count in splits)
    found = dict.fromkeys(entity.modality for entity in benchmark.test[0].entities())
    seen = ", ".join(f"{modality} {seen_in_training(benchmark, modality):.3f}" for modality in found)
    return f"{benchmark.name:<20}{counts}{len(benchmark.rejects):>9}{seen:>30}  {benchmark.checksum[:16]}"


def seen_in_training(benchmark: Benchmark, modality: str) -> float:
    """Share of the test examples whose entities of this modality all occur in training: what a model may remember."""
    known = {entity for example in benchmark.train for entity in example.entities(modality)}
    return sum(known.issuperset(example.entities(modality)) for example in benchmark.test) / len(benchmark.test)


def main(arguments: list[str]) -> None:
    """Print the table, one line per benchmark as it is read, and then every reason for a refusal once."""
    options: Any = OmegaConf.merge(DEFAULTS, OmegaConf.from_cli(arguments))
    unknown = set(options) - set(DEFAULTS)
    if unknown:
        raise ConfigError(f"unknown option {', '.join(sorted(map(str, unknown)))}: expected {', '.join(DEFAULTS)}")
    print(HEADER)
    refused = []
    suite: Any = OmegaConf.load(CONF / "suite" / f"{options.suite}.yaml")
    for name in suite.benchmarks:
        benchmark = load(OmegaConf.load(CONF / "benchmark" / f"{name}.yaml"), options)
        print(line(benchmark), flush=True)
        refused += [f"{name}  {reject.row}: {reject.reason}" for reject in benchmark.rejects]
    print("\n".join(refused))


def _count(examples: tuple[Example, ...]) -> str:
    share = sum(example.answer == 1 for example in examples) / max(1, len(examples))
    return f"{len(examples)} ({share:.3f})"


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BenchError as error:
        sys.exit(f"error: {error}")
