"""What the verbs of ``python -m src.tasks`` share: options as ``key=value``, config files, whole benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from esmerge.core.errors import ConfigError
from esmerge.core.paths import CONF
from esmerge.core.prompts import Benchmark
from esmerge.core.schema import choose, plain
from esmerge.tasks.api import SOURCES, Request
from esmerge.tasks.assemble import SplitSettings, TableSettings, whole
from esmerge.tasks.load import COMMON

DEFAULTS = {"root": None, "suite": "real", "seed": 0, "language": "english", "limit": None, "split": None}
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


def read_config(kind: str, name: str) -> Any:
    """The config file ``conf/<kind>/<name>.yaml``; raises ``ConfigError`` naming those that there are."""
    path = CONF / kind / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in (CONF / kind).glob("*.yaml")))
        raise ConfigError(f"unknown {kind} {name!r}: expected one of {known}")
    return OmegaConf.load(path)


def chosen_names(names: Sequence[str], options: Any) -> list[str]:
    """The benchmarks that were named, or those of the suite.

    Raises:
        ConfigError: there is no such benchmark or suite.
    """
    for name in names:
        read_config("benchmark", name)
    return list(names) or list(read_config("suite", options.suite).benchmarks)


def load(config: Any, options: Any, sampled: bool = False) -> Benchmark:
    """One benchmark as its config says, its training and validation splits whole or, ``sampled``, as a sweep sees them.

    Raises:
        ConfigError: it is not read from tables, there is no root, or ``options.split`` is none of its splits.
        InputError: its tables are missing, malformed, or hold too many bad rows.
    """
    node = plain(config)
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
    request = Request(language=options.language, seed=options.seed, limit=options.limit, root=str(root), **facts)
    settings = chosen.settings if sampled else whole(chosen.settings)
    return chosen.entry.function(settings, request)  # type: ignore[no-any-return]
