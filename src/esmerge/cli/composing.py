"""What Hydra says of names that do not exist, in this project's words and with the nearest one that does."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

import yaml
from hydra.errors import HydraException

from esmerge.core.paths import CONF

SETTING = re.compile(r"Could not override '([^']+)'")
CHOICE = re.compile(r"Could not find '([^']+)' Available options in '([^']+)': (.*?) Config search path")
RAISE = "HYDRA_FULL_ERROR"  # with it Hydra hands an error on, instead of printing where in its code it arose
OPEN = "open_experts"  # a node that the program registers for itself
NEAR = 0.6  # of 1, how alike two names must be for one to be proposed


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


def in_words(error: HydraException) -> str | None:
    """A line on a setting or a choice that does not exist; None for any other error of Hydra's."""
    text = " ".join(str(error).split())
    if missing := CHOICE.search(text):
        path, group, names = missing[1], missing[2], [name for name in missing[3].split() if name != OPEN]
        name = path.removeprefix(f"{group}/")
        return f"{group}={name} does not exist{_proposal(name, names)}: expected one of {', '.join(names)}"
    if unknown := SETTING.search(text):
        setting = unknown[1]
        return (
            f"{setting} is no setting of what is chosen here{_proposal(setting, _settings(setting))}: --cfg job prints "
            "them all"
        )
    return None


def _proposal(name: str, candidates: Iterable[str]) -> str:
    matches = get_close_matches(name, list(candidates), n=1, cutoff=NEAR)
    return f" (did you mean {matches[0]}?)" if matches else ""


def _settings(setting: str) -> set[str]:
    """The settings that a wrong one may be meant for: those of its group's files, or groups and settings at the top."""
    group, dot, _ = setting.partition(".")
    if not dot:
        top = {key for file in CONF.glob("*.yaml") for key in _read(file) if key not in ("defaults", "hydra")}
        return top | {folder.name for folder in CONF.iterdir() if folder.is_dir()}
    files = (CONF / group).rglob("*.yaml")
    return {f"{group}.{key}" for file in files for key in _dotted(_read(file)) if key != "defaults"}


def _dotted(node: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")


def _read(file: Path) -> Mapping[str, object]:
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}
