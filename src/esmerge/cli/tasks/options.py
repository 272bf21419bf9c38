"""What the verbs of ``python -m src.tasks`` share: options as ``key=value``, config files, whole benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from esmerge.core.compose import Config, compose_choice, compose_choices
from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Benchmark
from esmerge.core.schema import choose
from esmerge.tasks.api import SOURCES, BenchmarkRequest
from esmerge.tasks.assemble import SplitSettings, TableSettings, without_limits
from esmerge.tasks.load import COMMON

DEFAULTS = {
    "root": None,
    "suite": "real",
    "seed": 0,
    "language": "english",
    "limit": None,
    "split": None,
    "config_dir": None,
}
ROOT = "root is not set: give the folder that holds the tables, e.g. root=../shared/data"
WHOLE = {"seed": 0, "limit": 1}  # option -> its least value


def read_options(known: Mapping[str, Any], given: Sequence[str]) -> Any:
    """The options of a verb with what was given as ``key=value``.

    Raises:
        ConfigError: an option that the verb does not have, or a value that is no whole number where one is wanted.
    """
    found: Any = OmegaConf.from_cli(list(given))
    unknown = set(found) - set(known)
    if unknown:
        names = ", ".join(sorted(map(str, unknown)))
        raise ConfigError(f"unknown option {names}: expected {', '.join(known)}, each as key=value")
    options: Any = OmegaConf.merge(known, found)
    for name, least in WHOLE.items():
        value = options.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise ConfigError(f"{name}={value!r}: expected a whole number from {least}")
    return options


def read_config(group: str, name: str, options: Any) -> Config:
    """The composed config of a choice, from ``conf/`` and the folder ``options.config_dir``.

    Raises:
        ConfigError: there is no such choice, with those that there are; or no such folder.
    """
    return compose_choice(group, name, config_folders(options))


def config_folders(options: Any) -> list[str]:
    """Where configs lie besides ``conf/``, as Hydra's search path names it.

    Raises:
        ConfigError: ``options.config_dir`` is no folder.
    """
    if options.config_dir is None:
        return []
    folder = Path(str(options.config_dir)).absolute()
    if not folder.is_dir():
        raise ConfigError(f"config_dir={options.config_dir} is no folder: give the one that holds benchmark/NAME.yaml")
    return [f"file://{folder}"]


def chosen_names(names: Sequence[str], options: Any) -> list[str]:
    """The benchmarks that were named, or those of the suite.

    Raises:
        ConfigError: there is no such benchmark or suite.
    """
    chosen = list(names) or list(read_config("suite", options.suite, options)["benchmarks"])
    compose_choices("benchmark", chosen, config_folders(options))  # all in one go
    return chosen


def load(node: Config, options: Any, sampled: bool = False) -> Benchmark:
    """One benchmark, its training and validation splits whole or, ``sampled``, as a sweep sees them.

    Args:
        node: its composed config.
        options: of the verb; what they say goes before the config.

    Raises:
        ConfigError: it is not read from tables, there is no root, or ``options.split`` is none of its splits.
        InputError: its tables are missing, malformed, or hold too many bad rows.
    """
    if not issubclass(SOURCES.get(node["source"]).settings, TableSettings):
        raise ConfigError(f"benchmark {node['name']!r} is not read from tables: choose one of suite=all")
    own = {key: value for key, value in node.items() if key not in COMMON}
    if options.split is not None:
        if not issubclass(SOURCES.get(node["source"]).settings, SplitSettings):
            raise ConfigError(f"benchmark {node['name']} has no split to choose: leave split= out")
        own["split"] = options.split
    chosen = choose(SOURCES, {**own, "name": node["source"]}, f"benchmark {node['name']}")
    root = node.get("root") if options.root is None else options.root
    if root is None:
        raise ConfigError(ROOT)
    facts = {key: node[key] for key in ("name", "title", "family")}
    request = BenchmarkRequest(
        language=options.language, seed=options.seed, limit=options.limit, root=str(root), **facts
    )
    settings = chosen.settings if sampled else without_limits(chosen.settings)
    return chosen.entry.function(settings, request)  # type: ignore[no-any-return]
