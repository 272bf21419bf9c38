"""List the benchmarks of a suite with their counts: ``python -m src.tasks root=../data [suite=real] [seed=0]``."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from src.errors import BenchError, ConfigError
from src.specialists.pieces import Benchmark, Example
from src.tasks import SOURCES, Request
from src.tasks.assemble import whole

CONF = Path(__file__).parents[2] / "conf"
COMMON = ("name", "title", "family", "source", "root", "limit")
DEFAULTS = {"root": None, "suite": "real", "seed": 0, "language": "english", "limit": None}
HEADER = f"{'benchmark':<20}{'train':>16}{'validation':>16}{'test':>16}{'rejects':>9}{'seconds':>9}  sha256"


def load(config: Any, options: Any) -> Benchmark:
    """One benchmark as its config says, its training and validation splits whole."""
    entry = SOURCES.get(config.source)
    own: dict[str, Any] = {str(key): _plain(config[key]) for key in config if key not in COMMON}
    request = Request(
        config.name,
        options.language,
        options.seed,
        options.limit,
        options.root or config.root,
        title=config.title,
        family=config.family,
    )
    return entry.function(whole(entry.settings(**own)), request)


def line(benchmark: Benchmark, seconds: float) -> str:
    """Counts with the share of positive labels for each split."""
    splits = (_count(examples) for examples in (benchmark.train, benchmark.validation, benchmark.test))
    counts = "".join(f"{count:>16}" for count in splits)
    return f"{benchmark.name:<20}{counts}{len(benchmark.rejects):>9}{seconds:>9.1f}  {benchmark.checksum[:16]}"


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
        started = time.perf_counter()
        benchmark = load(OmegaConf.load(CONF / "benchmark" / f"{name}.yaml"), options)
        print(line(benchmark, time.perf_counter() - started), flush=True)
        refused += [f"{name}  {reject.row}: {reject.reason}" for reject in benchmark.rejects]
    print("\n".join(refused))


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def _count(examples: tuple[Example, ...]) -> str:
    share = sum(example.answer == 1 for example in examples) / max(1, len(examples))
    return f"{len(examples)} ({share:.3f})"


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BenchError as error:
        sys.exit(f"error: {error}")
