"""Shared by the verbs of ``python -m src.tasks``: options as ``key=value``, config files, whole benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from omegaconf import DictConfig, OmegaConf

from esmerge.core.compose import Config, compose_choice, compose_choices
from esmerge.core.errors import ConfigError
from esmerge.core.paths import user_path
from esmerge.core.prompts import Benchmark
from esmerge.core.schema import choose
from esmerge.tasks.api import SOURCES, BenchmarkRequest
from esmerge.tasks.load import COMMON
from esmerge.tasks.table_settings import SplitSettings, TableSettings, without_limits

DEFAULTS = {
    "root": None,
    "suite": "real",
    "seed": 0,
    "language": "english",
    "limit": None,
    "split": None,
    "identity": None,
    "config_dir": None,
}
ROOT = "root is not set: give the folder that holds the tables, e.g. root=../shared/data"
PATHS = ("root", "rejects", "cards", "config_dir", "wheel")
MINIMUM = {"seed": 0, "limit": 1}  # option -> its least value


def read_options(defaults: Mapping[str, object], arguments: Sequence[str]) -> DictConfig:
    """The options of a verb: its defaults, overridden by the ``key=value`` arguments.

    Raises:
        ConfigError: an option that the verb does not have, or a value that is no whole number where it must be one.
    """
    texts = dict(argument.split("=", 1) for argument in arguments)
    overrides = OmegaConf.from_dotlist([f"{key}={value}" for key, value in texts.items() if key not in PATHS])
    overrides.update({key: value or None for key, value in texts.items() if key in PATHS})  # whatever they look like
    unknown = set(overrides) - set(defaults)
    if unknown:
        names = ", ".join(sorted(map(str, unknown)))
        raise ConfigError(f"unknown option {names}: expected {', '.join(defaults)}, each as key=value")
    options = cast(DictConfig, OmegaConf.merge(defaults, overrides))
    for name, minimum in MINIMUM.items():
        value = options.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < minimum):
            raise ConfigError(f"{name}={value!r}: expected a whole number from {minimum}")
    return options


def composed_config(group: str, name: str, options: DictConfig) -> Config:
    """The composed config of a choice, from ``conf/`` and the folder ``options.config_dir``.

    Raises:
        ConfigError: there is no such choice, with those that there are; or no such folder.
    """
    return compose_choice(group, name, config_folders(options))


def config_folders(options: DictConfig) -> list[str]:
    """Where configs lie besides ``conf/``, as Hydra's search path names it.

    Raises:
        ConfigError: ``options.config_dir`` is no folder.
    """
    if options.config_dir is None:
        return []
    folder = user_path(options.config_dir, "config_dir").absolute()
    if not folder.is_dir():
        raise ConfigError(f"config_dir={options.config_dir} is no folder: give the one that holds benchmark/NAME.yaml")
    return [f"file://{folder}"]


def selected_names(names: Sequence[str], options: DictConfig) -> list[str]:
    """The benchmarks that were named, or those of the suite.

    Raises:
        ConfigError: there is no such benchmark or suite.
    """
    selected = list(names) or list(composed_config("suite", options.suite, options)["benchmarks"])
    compose_choices("benchmark", selected, config_folders(options))  # all in one go
    return selected


def load_from_tables(node: Config, options: DictConfig, sampled: bool = False) -> Benchmark:
    """One benchmark, its training and validation splits whole or, ``sampled``, as a sweep sees them.

    Args:
        node: its composed config.
        options: of the verb; they override the config.

    Raises:
        ConfigError: it is not read from tables, there is no root, or ``options.split`` is none of its splits.
        InputError: its tables are missing, malformed, or hold too many bad rows.
    """
    if not issubclass(SOURCES.get(node["source"]).settings, TableSettings):
        raise ConfigError(f"benchmark {node['name']!r} is not read from tables: choose one of suite=all")
    settings_node = {key: value for key, value in node.items() if key not in COMMON}
    if options.split is not None:
        if not issubclass(SOURCES.get(node["source"]).settings, SplitSettings):
            raise ConfigError(f"benchmark {node['name']} has no split to choose: leave split= out")
        settings_node["split"] = options.split
    if options.identity is not None:
        settings_node["identity"] = options.identity
    selection = choose(SOURCES, {**settings_node, "name": node["source"]}, f"benchmark {node['name']}")
    root = node.get("root") if options.root is None else options.root
    if root is None:
        raise ConfigError(ROOT)
    texts = {key: node[key] for key in ("name", "title", "family")}
    request = BenchmarkRequest(
        language=options.language, seed=options.seed, limit=options.limit, root=str(root), **texts
    )
    settings = selection.settings if sampled else without_limits(selection.settings)
    benchmark: Benchmark = selection.entry.function(settings, request)
    return benchmark
