"""From a suite to its benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from src.config import Sweep, choose, plain
from src.errors import ConfigError
from src.specialists.pieces import Benchmark
from src.tasks import SOURCES, Request

CONF = Path(__file__).resolve().parents[2] / "conf" / "benchmark"
COMMON = ("name", "title", "family", "source", "root", "limit")


def benchmark_names(sweep: Sweep) -> list[str]:
    """The suite's benchmarks, or the one that was chosen by ``benchmark=NAME``."""
    chosen = sweep.benchmark.get("name")
    return [chosen] if chosen else list(sweep.suite.benchmarks)


def load_benchmark(sweep: Sweep, name: str) -> Benchmark:
    """One benchmark as this sweep asks it.

    Raises:
        ConfigError: no such benchmark, or a setting it does not have.
        InputError: its tables are missing, malformed, or hold too many bad rows.
    """
    node = sweep.benchmark if sweep.benchmark.get("name") == name else _node(name)
    specialists = sweep.specialists.settings
    request = Request(
        name=name,
        title=node["title"],
        family=node["family"],
        language=specialists.language,
        seed=sweep.seed,
        limit=_positive(sweep.benchmark.get("limit") or node.get("limit")),
        root=sweep.benchmark.get("root") or node.get("root"),
        world=getattr(specialists, "world", None),
    )
    settings = {key: value for key, value in node.items() if key not in COMMON}
    chosen = choose(SOURCES, {"name": node["source"], **settings}, f"benchmark {name}")
    return chosen.entry.function(chosen.settings, request)  # type: ignore[no-any-return]


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
