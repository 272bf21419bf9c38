"""From a suite to its benchmarks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esmerge.core.compose import compose_choice, compose_choices
from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Benchmark
from esmerge.core.schema import Selection, choose
from esmerge.data.tables import recorded_lookups
from esmerge.tasks.api import SOURCES, Request, SuiteRequest
from esmerge.tasks.few_shot.api import SHOT_RULES
from esmerge.tasks.few_shot.few_shot import with_shots
from esmerge.tasks.window import windowed

SHARED = ("root", "limit", "shots", "shot_choice", "shot_separator", "protein_window")  # by all benchmarks of a suite
COMMON = ("name", "title", "family", "source", *SHARED)


@dataclass(frozen=True)
class _Loaded:
    """A benchmark, the settings it was loaded with, and its tables as they were."""

    key: str
    tables: dict[Path, tuple[int, int] | None]
    benchmark: Benchmark


_LOADED: dict[str, _Loaded] = {}  # jobs of one process share their benchmarks: the last of each name
_CHECKED: dict[str, Selection] = {}  # and settings that were found to be right, which every run asks for several times


def check_benchmarks(suite: SuiteRequest) -> None:
    """Refuse, before any work, benchmarks that do not exist and settings that they do not have.

    Raises:
        ConfigError: naming the benchmark or the setting, and what was expected.
    """
    names = list(suite.names)
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"suite.benchmarks={names}: expected one or more benchmarks, each once")
    compose_choices("benchmark", [name for name in names if name != suite.told.get("name")])  # all in one go
    for name in names:
        _chosen(suite, name)
    unknown = sorted(set(suite.told) - {"name", *SHARED})
    if suite.told.get("name") is None and unknown:
        raise ConfigError(
            f"benchmark.{unknown[0]} is not a setting that all benchmarks share: those are {', '.join(SHARED)}"
        )


def load_benchmark(suite: SuiteRequest, name: str) -> Benchmark:
    """One benchmark as the suite is asked; made once per process, and again where its tables changed.

    Raises:
        ConfigError: no such benchmark, or a setting it does not have or that does not fit its questions.
        InputError: its tables are missing, malformed, or hold too many bad rows.
    """
    chosen, request = _chosen(suite, name)
    key, known = repr((chosen, request)), _LOADED.get(name)
    if known is None or known.key != key or known.tables != _stamps(known.tables):
        with recorded_lookups() as tables:
            benchmark = chosen.entry.function(chosen.settings, request)
        asked = with_shots(windowed(benchmark, request.protein_window), request)
        _LOADED[name] = known = _Loaded(key, _stamps(tables), asked)
    return known.benchmark


def _stamps(tables: Iterable[Path]) -> dict[Path, tuple[int, int] | None]:
    """Time of change and size of each table: another one is another table."""
    found = {path: path.stat() for path in tables if path.exists()}
    return {path: (found[path].st_mtime_ns, found[path].st_size) if path in found else None for path in tables}


def terms(suite: SuiteRequest, name: str) -> dict[str, Any]:
    """What decides which questions of a benchmark is asked, and how: ``limit``, ``split`` and ``shots``.

    ``split`` is None for a benchmark that has none to choose.
    """
    chosen, request = _chosen(suite, name)
    return {"limit": request.limit, "split": getattr(chosen.settings, "split", None), "shots": request.shots}


def _chosen(suite: SuiteRequest, name: str) -> tuple[Selection, Request]:
    """The source of a benchmark with its settings, and what it is told by the suite."""
    node = suite.told if suite.told.get("name") == name else compose_choice("benchmark", name)
    absent = [key for key in ("title", "family", "source") if not node.get(key)]
    if absent:
        raise ConfigError(f"benchmark {name} has no {', '.join(absent)}: each must be given")
    request = Request(
        name=name,
        title=node["title"],
        family=node["family"],
        language=suite.language,
        seed=suite.seed,
        world=suite.world,
        **_shared(suite.told, node),
    )
    settings = {key: value for key, value in node.items() if key not in COMMON}
    return _checked({"name": node["source"], **settings}, f"benchmark {name}"), request


def _checked(node: Mapping[str, Any], path: str) -> Selection:
    key = repr((path, node))
    if key not in _CHECKED:
        _CHECKED[key] = choose(SOURCES, node, path)
    return _CHECKED[key]


def _shared(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """What the suite says of the shared settings; the benchmark's own file where the suite says nothing."""
    told = {key: own.get(key) if shared.get(key) is None else shared[key] for key in SHARED}
    choice, separator = told["shot_choice"] or "auto", told["shot_separator"]
    if choice not in SHOT_RULES.names():
        raise ConfigError(f"benchmark.shot_choice={choice!r}: expected one of {', '.join(SHOT_RULES.names())}")
    if separator is not None and (not isinstance(separator, str) or not separator):
        raise ConfigError(f"benchmark.shot_separator={separator!r}: expected text, or null for the language's own")
    return {
        "root": told["root"],
        "limit": _whole("limit", told["limit"], 1),
        "shots": _whole("shots", told["shots"], 0) or 0,
        "shot_choice": choice,
        "shot_separator": separator,
        "protein_window": _whole("protein_window", told["protein_window"], 1),
    }


def _whole(name: str, value: Any, least: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        what = "null for all" if least else "null for none"
        raise ConfigError(f"benchmark.{name}={value!r}: expected a whole number from {least}, or {what}")
    return value
