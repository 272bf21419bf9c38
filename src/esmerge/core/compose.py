"""One choice of a config group as Hydra composes it: with its ``defaults``, from any folder of the search path.

Inside a job the search path is the job's: the shipped folder, ``--config-dir``, ``hydra.searchpath`` and what plug-ins
add. Where no job runs it is the shipped folder and those that the caller names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from esmerge.core import paths
from esmerge.core.config_files import read_configs_in_any_encoding
from esmerge.core.errors import ConfigError
from esmerge.core.schema import plain

Config = dict[str, Any]  # values of YAML

read_configs_in_any_encoding()
_COMPOSED: dict[tuple[str, ...], Config] = {}  # composing takes time, and a sweep asks for the same configs many times


def compose_choice(group: str, name: str, folders: Sequence[str] = ()) -> Config:
    """The config ``name`` of a group; arguments and errors are those of ``compose_choices``."""
    return compose_choices(group, [name], folders)[name]


def compose_choices(group: str, names: Iterable[str], folders: Sequence[str] = ()) -> dict[str, Config]:
    """Name -> its config, resolved, as plain values; those that are not composed yet are composed in one go.

    A config may interpolate its own keys, relative to where they stand (``${.title}``): what stands around it, nothing
    says.

    Args:
        group: a config group, e.g. ``"benchmark"``.
        names: choices of the group; bases in folders below it are none.
        folders: further folders with configs, where no job runs.

    Raises:
        ConfigError: there is no such choice, with those that there are; or it cannot be composed.
    """
    unique_names = list(dict.fromkeys(names))
    with _search_path(folders) as (sources, overrides):
        absent = [name for name in unique_names if (*sources, group, name) not in _COMPOSED]
        if absent:
            _check_names(group, absent, overrides)
            composed = _compose(group, absent, overrides)
            _COMPOSED.update({(*sources, group, name): config for name, config in composed.items()})
        return {name: deepcopy(_COMPOSED[*sources, group, name]) for name in unique_names}


def choices(group: str, folders: Sequence[str] = ()) -> list[str]:
    """The names that a group offers, sorted."""
    with _search_path(folders) as (_, overrides):
        return _options(group, overrides)


@contextmanager
def _search_path(folders: Sequence[str]) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Hydra as the job set it up, or set up for the shipped folder: where configs come from, and the overrides that
    say so."""
    if GlobalHydra.instance().is_initialized():
        added = [*HydraConfig.get().searchpath, *folders] if HydraConfig.initialized() else list(folders)
        sources = GlobalHydra.instance().config_loader().get_sources()
        yield tuple(map(repr, sources)) + tuple(added), _searching(added)
    else:
        with initialize_config_dir(str(paths.CONF), job_name="esmerge", version_base="1.3"):
            yield (str(paths.CONF), *folders), _searching(folders)


def _searching(folders: Sequence[str]) -> list[str]:
    return [f"hydra.searchpath=[{','.join(map(_quoted, folders))}]"] if folders else []


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "\\'") + "'"


def _options(group: str, overrides: list[str]) -> list[str]:
    loader = GlobalHydra.instance().config_loader()
    return loader.get_group_options(group, ObjectType.CONFIG, config_name=None, overrides=overrides)


def _check_names(group: str, names: Iterable[str], overrides: list[str]) -> None:
    offered = _options(group, overrides)
    for name in names:
        if name not in offered:
            raise ConfigError(f"unknown {group} {name!r}: expected one of {', '.join(offered)}")


def _compose(group: str, names: Sequence[str], overrides: list[str]) -> dict[str, Config]:
    """One composition with every choice in a package of its own."""
    packages = {f"choice_{number}": name for number, name in enumerate(names)}
    selections = [f"+{group}@{package}={_quoted(name)}" for package, name in packages.items()]
    try:
        config = compose(overrides=[*overrides, *selections])
        configs = {name: plain(config[package]) for package, name in packages.items()}
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        if len(names) > 1:  # which of them
            return {name: _compose(group, [name], overrides)[name] for name in names}
        reason = " ".join(str(error.__cause__ or error).split())
        raise ConfigError(f"{group} {names[0]} cannot be composed: {reason}") from error
    for name, content in configs.items():
        if not isinstance(content, dict):
            raise ConfigError(f"{group} {name} is a {type(content).__name__}: expected settings, each as key: value")
    return configs
