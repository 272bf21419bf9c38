"""From a suite to its benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from src.config import Chosen, Sweep, choose, plain
from src.errors import ConfigError
from src.specialists.pieces import Benchmark
from src.tasks import SOURCES, Request

CONF = Path(__file__).resolve().parents[2] / "conf" / "benchmark"
COMMON = ("name", "title", "family", "source", "root", "limit")


def benchmark_names(sweep: Sweep) -> list[str]:
    """The suite's benchmarks, or the one that was chosen by ``benchmark=NAME``."""
    chosen = sweep.benchmark.get("name")
    return [chosen] if chosen else list(sweep.suite.benchmarks)


def check_benchmarks(sweep: Sweep) -> None:
    """Refuse, before any work, benchmarks that do not exist and settings that they do not have.

    Raises:
        ConfigError: naming the benchmark or the setting, and what was expected.
    """
    names = benchmark_names(sweep)
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"suite.benchmarks={names}: expected one or more benchmarks, each once")
    for name in names:
        _chosen(sweep, name)
    unknown = sorted(set(sweep.benchmark) - {"name", "root", "limit"})
    if sweep.benchmark.get("name") is None and unknown:
        raise ConfigError(
            f"benchmark.{unknown[0]} is not a setting that all benchmarks share: those are root and limit"
        )


def load_benchmark(sweep: Sweep, name: str) -> Benchmark:
    """One benchmark as this sweep asks it.

    Raises:
        ConfigError: no such benchmark, or a setting it does not have.
        InputError: its tables are missing, malformed, or hold too many bad rows.
    """
    chosen, request = _chosen(sweep, name)
    return chosen.entry.function(chosen.settings, request)  # type: ignore[no-any-return]


def _chosen(sweep: Sweep, name: str) -> tuple[Chosen, Request]:
    """The source of a benchmark with its settings, and what it is told by this sweep."""
    node = sweep.benchmark if sweep.benchmark.get("name") == name else _node(name)
    absent = [key for key in ("title", "family", "source") if not node.get(key)]
    if absent:
        raise ConfigError(f"benchmark {name} has no {', '.join(absent)}: each must be given")
    specialists = sweep.specialists.settings
    limit, root = sweep.benchmark.get("limit"), sweep.benchmark.get("root")
    request = Request(
        name=name,
        title=node["title"],
        family=node["family"],
        language=specialists.language,
        seed=sweep.seed,
        limit=_positive(node.get("limit") if limit is None else limit),
        root=node.get("root") if root is None else root,
        world=getattr(specialists, "world", None),
    )
    settings = {key: value for key, value in node.items() if key not in COMMON}
    return choose(SOURCES, {"name": node["source"], **settings}, f"benchmark {name}"), request


def _node(name: str) -> dict[str, Any]:
    path = CONF / f"{name}.yaml"
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in CONF.glob("*.yaml")))
        raise ConfigError(f"unknown benchmark {name!r}: expected one of {known}")
    return plain(OmegaConf.load(path))  # type: ignore[arg-type]


def _positive(limit: Any) -> int | None:
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ConfigError(f"benchmark.limit={limit!r}: expected a whole number from 1, or null for all")
    return limit
