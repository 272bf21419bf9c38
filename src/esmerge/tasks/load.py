"""From a suite to its benchmarks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypedDict

from esmerge.core.compose import compose_choice, compose_choices
from esmerge.core.errors import ConfigError
from esmerge.core.names import check_name
from esmerge.core.prompts import Benchmark
from esmerge.core.schema import Selection, choose
from esmerge.data.tables import recorded_lookups
from esmerge.tasks.api import SOURCES, BenchmarkRequest, Refusals, SuiteRequest
from esmerge.tasks.few_shot.api import SHOT_RULES
from esmerge.tasks.few_shot.few_shot import with_shots
from esmerge.tasks.perceivable import perceivable
from esmerge.tasks.seen import marked
from esmerge.tasks.window import windowed

SHARED = ("root", "limit", "shots", "shot_choice", "shot_separator", "protein_window", "seen")  # by all of a suite
PANELS = ("perceive", "training")  # a suite can set these for all of its benchmarks if each of them has it
COMMON = ("name", "title", "family", "source", *SHARED)


@dataclass(frozen=True)
class _Loaded:
    """A benchmark, the settings it was loaded with, and its tables as they were."""

    key: str
    tables: dict[Path, tuple[int, int] | None]
    benchmark: Benchmark


class _Shared(TypedDict):
    """The settings that all benchmarks of a suite share, checked: see ``BenchmarkRequest``."""

    root: str | None
    limit: int | None
    shots: int
    shot_choice: str
    shot_separator: str | None
    protein_window: int | None
    seen: str | None


_LOADED: dict[str, _Loaded] = {}  # jobs of one process share their benchmarks: the last of each name
_CHECKED: dict[str, Selection] = {}  # and settings that were checked, which every run needs several times


def check_benchmarks(suite: SuiteRequest) -> None:
    """Refuse, before any work, benchmarks that do not exist and settings that they do not have.

    Raises:
        ConfigError: naming the benchmark or the setting, and what was expected.
    """
    names = list(suite.names)
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"suite.benchmarks={names}: expected one or more benchmarks, each once")
    compose_choices("benchmark", [name for name in names if name != suite.overrides.get("name")])  # all in one go
    for name in names:
        _select(suite, name)
    unknown = sorted(set(suite.overrides) - {"name", *SHARED, *PANELS})
    if suite.overrides.get("name") is None and unknown:
        raise ConfigError(
            f"benchmark.{unknown[0]} is not a setting that all benchmarks share: those are {', '.join(SHARED)}, and of "
            f"panels {', '.join(PANELS)}"
        )


def load_benchmark(suite: SuiteRequest, name: str, refusals: Refusals | None = None) -> Benchmark:
    """One benchmark as the suite requests it; loaded once per process, and again where its tables changed.

    Args:
        refusals: entities that nobody is asked about, since an encoder refuses them; None for none.

    Raises:
        ConfigError: no such benchmark, or a setting that it does not have or that does not fit its questions.
        InputError: its tables are missing, malformed, or hold too many bad rows, or too many refused entities.
    """
    selection, request = _select(suite, name)
    key, cached = repr((selection, request, None if refusals is None else refusals.key)), _LOADED.get(name)
    if cached is None or cached.key != key or cached.tables != _stamps(cached.tables):
        with recorded_lookups() as tables:
            benchmark = marked(selection.entry.function(selection.settings, request), request)
        cut = windowed(benchmark, request.protein_window)
        answerable = perceivable(cut, refusals, selection.settings.reject_limit())
        complete = with_shots(answerable, request, selection.settings.shot_identity())
        _LOADED[name] = cached = _Loaded(key, _stamps(tables), complete)
    return cached.benchmark


def _stamps(tables: Iterable[Path]) -> dict[Path, tuple[int, int] | None]:
    """Time of change and size of each table: another one is another table."""
    stats = {path: path.stat() for path in tables if path.exists()}
    return {path: (stats[path].st_mtime_ns, stats[path].st_size) if path in stats else None for path in tables}


def terms(suite: SuiteRequest, name: str) -> dict[str, object]:
    """The settings that decide which questions a benchmark has: ``limit``, ``split``, ``shots`` and ``seen``.

    ``split`` is None for a benchmark that has none to choose.
    """
    selection, request = _select(suite, name)
    return {
        "limit": request.limit,
        "split": selection.settings.split_kind(),
        "shots": request.shots,
        "seen": request.seen,
    }


def _select(suite: SuiteRequest, name: str) -> tuple[Selection, BenchmarkRequest]:
    """The source of a benchmark with its settings, and the suite's request to it."""
    check_name(name, "benchmark.name")
    whole_config = suite.overrides.get("name") == name
    node: Mapping[str, object] = suite.overrides if whole_config else compose_choice("benchmark", name)
    absent = [key for key in ("title", "family", "source") if not node.get(key)]
    if absent:
        raise ConfigError(f"benchmark {name} has no {', '.join(absent)}: each must be given")
    request = BenchmarkRequest(
        name=name,
        title=str(node["title"]),
        family=str(node["family"]),
        language=suite.language,
        seed=suite.seed,
        world=suite.world,
        **_shared(suite.overrides, node),
    )
    settings = {key: value for key, value in node.items() if key not in COMMON}
    if not whole_config:
        settings |= _of_panels(suite.overrides, name, str(node["source"]))
    return _checked({"name": node["source"], **settings}, f"benchmark {name}"), request


def _of_panels(overrides: Mapping[str, object], name: str, source: str) -> dict[str, object]:
    """The suite's values of ``PANELS``; raises ``ConfigError`` where a benchmark does not have one."""
    values = {key: overrides[key] for key in PANELS if overrides.get(key) is not None}
    offered = {item.name for item in fields(SOURCES.get(source).settings)}
    for key, value in values.items():
        if key not in offered:
            raise ConfigError(
                f"benchmark.{key}={value}: the benchmark {name} has no such setting, and a suite can set it only if "
                "all of its benchmarks have it: leave it out, or take a suite of panels, e.g. suite=panels"
            )
    return values


def _checked(node: Mapping[str, object], path: str) -> Selection:
    key = repr((path, node))
    if key not in _CHECKED:
        _CHECKED[key] = choose(SOURCES, node, path)
    return _CHECKED[key]


def _shared(overrides: Mapping[str, object], defaults: Mapping[str, object]) -> _Shared:
    """The shared settings: the suite's value, or that of the benchmark's file where the suite has none."""
    values = {key: defaults.get(key) if overrides.get(key) is None else overrides[key] for key in SHARED}
    choice, separator = values["shot_choice"] or "auto", values["shot_separator"]
    if choice not in SHOT_RULES.names():
        raise ConfigError(f"benchmark.shot_choice={choice!r}: expected one of {', '.join(SHOT_RULES.names())}")
    if separator is not None and (not isinstance(separator, str) or not separator):
        raise ConfigError(f"benchmark.shot_separator={separator!r}: expected text, or null for the language's own")
    return {
        "root": _folder("root", values["root"]),
        "limit": _whole("limit", values["limit"], 1),
        "shots": _whole("shots", values["shots"], 0) or 0,
        "shot_choice": str(choice),
        "shot_separator": separator,
        "protein_window": _whole("protein_window", values["protein_window"], 1),
        "seen": _folder("seen", values["seen"]),
    }


def _folder(name: str, value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"benchmark.{name}={value!r}: expected a folder, or null for none")
    return value


def _whole(name: str, value: object, minimum: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        null_meaning = "null for all" if minimum else "null for none"
        raise ConfigError(f"benchmark.{name}={value!r}: expected a whole number from {minimum}, or {null_meaning}")
    return value
