"""What Hydra says of names that do not exist, in this project's words and with the nearest one that does."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

import yaml
from hydra.errors import HydraException

from esmerge.core.compose import compose_choices
from esmerge.core.errors import ConfigError
from esmerge.core.paths import CONF

SETTING = re.compile(r"Could not override '([^']+)'")
CHOICE = re.compile(r"Could not find '([^']+)' Available options in '([^']+)': (.*?) Config search path")
RAISE = "HYDRA_FULL_ERROR"  # with it Hydra hands an error on, instead of printing where in its code it arose
OPEN = "open_experts"  # a node that the program registers for itself
NEAR = 0.6  # of 1, how alike two names must be for one to be proposed
OTHER_NAMES = {"lambda": "scale"}  # what the literature calls a setting -> what configs call it

Settings = frozenset[str]
"""Dotted names of settings."""


@contextmanager
def handing_on() -> Iterator[bool]:
    """A block in which Hydra hands errors on; whether the user had asked for that already, to see where they arise."""
    before = os.environ.get(RAISE)
    os.environ[RAISE] = "1"
    try:
        yield bool(before)
    finally:
        os.environ.pop(RAISE)
        if before is not None:
            os.environ[RAISE] = before


def start(job: Callable[[], object]) -> None:
    """Run a front door's job; what Hydra cannot compose ends the process with a line on it."""
    with handing_on() as full_error:
        try:
            job()
        except HydraException as error:
            if full_error:
                raise
            sys.exit(f"error: {explained(error)}")


def explained(error: HydraException) -> str:
    """Any error of Hydra's in one line."""
    return in_words(error) or " ".join(str(error).split())


def in_words(error: HydraException, words: Sequence[str] | None = None) -> str | None:
    """A line on a setting or a choice that does not exist; None for any other error of Hydra's.

    Args:
        words: the overrides that could not be composed; None for those of this process.
    """
    text = " ".join(str(error).split())
    if missing := CHOICE.search(text):
        path, group, names = missing[1], missing[2], [name for name in missing[3].split() if name != OPEN]
        name = path.removeprefix(f"{group}/")
        nearest = _proposal(name, {name: name for name in names})
        return f"{group}={name} does not exist{nearest}: expected one of {', '.join(names)}"
    if unknown := SETTING.search(text):
        return _unknown_setting(unknown[1], sys.argv[1:] if words is None else words)
    return None


def _unknown_setting(setting: str, words: Sequence[str]) -> str:
    """A line on a setting that cannot be set: no choice of its group has it, or not each of those that are swept."""
    group = setting.partition(".")[0]
    chosen = _chosen(group, words)
    owners = [name for name, settings in chosen.items() if setting in settings]
    others = [name for name in chosen if name not in owners]
    if owners and others:
        return (
            f"{setting} is a setting of {group}={','.join(owners)}, but not of {group}={','.join(others)}: give these "
            "jobs a command of their own"
        )
    if len(owners) > 1:
        value = next((word.partition("=")[2] for word in words if word.startswith(f"{setting}=")), "VALUE")
        return (
            f"{setting} is a setting of each of {group}={','.join(owners)}, but Hydra sets it before it takes one of "
            f"them: write {shlex.quote(f'{setting}=choice({value})')}"
        )
    known = frozenset[str]().union(*chosen.values()) if chosen else _named_at_the_top(setting)
    candidates = {name.removeprefix(f"{group}."): name for name in known if name != setting}
    candidates |= {other: candidates[name] for other, name in OTHER_NAMES.items() if name in candidates}
    nearest = _proposal(setting.removeprefix(f"{group}."), candidates)
    return f"{setting} is no setting of what is chosen here{nearest}: --cfg job prints them all"


def _proposal(name: str, candidates: Mapping[str, str]) -> str:
    """The candidate whose name, a key, is nearest."""
    matches = get_close_matches(name, list(candidates), n=1, cutoff=NEAR)
    return f" (did you mean {candidates[matches[0]]}?)" if matches else ""


def _chosen(group: str, words: Sequence[str]) -> dict[str, Settings]:
    """Choice -> its settings, of those that the words choose of a group, else an experiment, else the command's file.

    Empty for what is no group, and where a choice cannot be composed.
    """
    if not (CONF / group).is_dir():
        return {}
    names = _values(group, words)
    for experiment in _values("experiment", words) if not names else []:
        names += _default(_read(CONF / "experiment" / f"{experiment}.yaml"), f"override /{group}")
    names = names or _default(_read(_command_file()), group)
    try:
        configs = compose_choices(group, names)
    except (ConfigError, HydraException):
        return {}
    return {name: frozenset(f"{group}.{key}" for key in _dotted(config)) for name, config in configs.items()}


def _values(group: str, words: Sequence[str]) -> list[str]:
    """The values that the last word on a group gives it, one or several."""
    given = [word.partition("=")[2] for word in words if word.partition("=")[0].lstrip("+") == group]
    return [value.strip() for value in given[-1].removeprefix("choice(").rstrip(")").split(",")] if given else []


def _default(config: Mapping[str, object], key: str) -> list[str]:
    """What the defaults of a config choose under a key."""
    defaults = config.get("defaults")
    entries = [entry for entry in defaults if isinstance(entry, Mapping)] if isinstance(defaults, list) else []
    return [str(entry[key]) for entry in entries if entry.get(key) is not None]


def _command_file() -> Path:
    """The config of the command that runs, ``esmerge VERB`` or ``src/VERB.py``; the sweep's where it has none."""
    verb = Path(sys.argv[0].rpartition(" ")[2]).stem.replace("-", "_")
    file = CONF / f"{verb}.yaml"
    return file if file.is_file() else CONF / "sweep.yaml"


def _named_at_the_top(setting: str) -> Settings:
    """The settings that a command's file names itself: its keys and groups; of a dotted one those below its key."""
    key, dot, _ = setting.partition(".")
    if dot:
        node = _read(_command_file()).get(key)
        return frozenset(f"{key}.{name}" for name in _dotted(node)) if isinstance(node, Mapping) else frozenset()
    top = {name for file in CONF.glob("*.yaml") for name in _read(file) if name not in ("defaults", "hydra")}
    return frozenset(top | {folder.name for folder in CONF.iterdir() if folder.is_dir()})


def _dotted(node: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")


def _read(file: Path) -> Mapping[str, object]:
    if not file.is_file():
        return {}
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}
