"""Words of the command line before Hydra reads them: a value that it would misread is refused with its quoted form."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException

from esmerge.cli.overrides import with_paths
from esmerge.core.errors import ConfigError
from esmerge.core.paths import CONF, user_path

HYDRAS_FOLDERS = ("hydra.run.dir", "hydra.sweep.dir")  # which Hydra makes, and takes ~ for a folder's name in
WITH_VALUE = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--package", "-p")
SWEEP = re.compile(r"(choice|shuffle|sort)\(")  # what Hydra's grammar makes several values of, beside a plain list
NAMED = re.compile(r"\+*((specialists\.)?(experts|encoders)\.[^.=]+)=")  # what has a name of the user's own
TEXTS = re.compile(  # settings whose values are texts, whatever they look like
    r"\+*(out|tuned|part|targets|checkpoint|adapter|coefficients(\.layer|\.element)?|(coefficients\.)?roles\.\w+|cache|backbone(\.path)?|folder|outputs|sweep"
    r"|tracking\.(folder|project|entity)|hydra\.(run|sweep)\.dir"
    r"|benchmark\.root|probe\.file|specialists\.(pool|root|checkpoint|backbone(\.path)?)|(specialists\.)?experts\.[\w-]+)"
)


def prepare_command_line() -> None:
    """Put this process's words as Hydra reads them; one that it would misread ends the process with a line on it."""
    try:
        sys.argv[1:] = with_paths(readable(sys.argv[1:]))
    except ConfigError as error:
        sys.exit(f"error: {error}")


def readable(words: Sequence[str]) -> list[str]:
    """The words, with texts that look like numbers quoted and ``~`` expanded where Hydra makes the folder.

    Raises:
        ConfigError: a word that Hydra cannot read, or reads as something else, with its quoted form; or one expert's
            adapter that is given twice, of which Hydra would drop the first.
    """
    _check_names_once(words)
    several = any(word in ("-m", "--multirun", "hydra.mode=MULTIRUN") for word in words)
    before = ["", *words]  # an option's value is no override
    return [
        _readable(word, several) if "=" in word and not word.startswith("-") and option not in WITH_VALUE else word
        for word, option in zip(words, before, strict=False)
    ]


def _check_names_once(words: Sequence[str]) -> None:
    keys = [match[1] for word in words if (match := NAMED.match(word))]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(f"{key} is given {keys.count(key)} times: give each adapter a name of its own")


def _readable(word: str, several: bool) -> str:
    key, _, value = word.partition("=")
    _check_letters(word)
    if key in HYDRAS_FOLDERS and value.lstrip("'\"").startswith("~"):
        word = quoted(key, str(user_path(value.strip("'\""), key)))
    try:
        override = _parse(word)
    except HydraException as error:
        raise ConfigError(_unreadable(key, value)) from error
    _check_group(key, override)
    if override.is_choice_sweep() and "," in value and not SWEEP.match(value):
        _check_commas(word, several)
    elif override.is_sweep_override() and not several:
        raise ConfigError(f"{word}: this stands for several values, one for each job of a sweep or search: add -m")
    elif isinstance(override.value(), str) and value != value.strip():
        raise ConfigError(f"{word!r}: Hydra drops blanks around a value: quote it, {shlex.quote(quoted(key, value))}")
    elif isinstance(override.value(), bool | int | float) and TEXTS.fullmatch(key):
        return quoted(key, value)
    return word


def _check_group(key: str, override: Override) -> None:
    """Refuse a number where a config group expects a name; Hydra would look for it in vain and end in a traceback."""
    group = key.lstrip("+").partition("@")[0]
    if override.is_delete() or override.is_sweep_override() or not (CONF / group).is_dir():
        return
    value = override.value()
    names = value if isinstance(value, list) else [] if value is None else [value]
    if isinstance(value, dict) or not all(isinstance(name, str | QuotedString) for name in names):
        raise ConfigError(f"{override.input_line}: {group} is a config group, expected the name of one of its choices")


def quoted(key: str, value: str) -> str:
    """An override whose value Hydra takes as it stands."""
    escaped = re.sub(r'(\\*)("|$)', lambda match: match[1] * 2 + ("\\" + match[2] if match[2] else ""), value)
    return f'{key}="{escaped}"'


def _parse(word: str) -> Override:
    return OverridesParser.create().parse_override(word)


def _unreadable(key: str, value: str) -> str:
    try:
        _parse(f"{key}=plain")
    except HydraException:
        return (
            f"{key}={value}: Hydra cannot read the name before =: it may hold letters from A to Z, digits, - and _, "
            "joined by dots, and no part may be a number such as 1e3 or begin with -"
        )
    return (
        f"{key}={value}: Hydra cannot read this value; if it is a text, such as a path, quote it: "
        f"{shlex.quote(quoted(key, value))}"
    )


def _is_there(value: str) -> bool:
    """Whether there is a file or folder of this name; a list of many values is too long to be one."""
    try:
        return Path(value).expanduser().exists()
    except (OSError, RuntimeError):
        return False


def _check_commas(word: str, several: bool) -> None:
    """Refuse a list of values where there is one job, and a path that a list was made of."""
    key, _, value = word.partition("=")
    text = f"quote it, {shlex.quote(quoted(key, value))}"
    if _is_there(value):
        raise ConfigError(f"{word}: Hydra reads a comma as the end of a value, and there is such a path: {text}")
    if not several:
        raise ConfigError(
            f"{word}: a comma parts values, one for each job of a sweep: add -m; if it belongs to one value, {text}; "
            f"for a list, {shlex.quote(f'{key}=[{value}]')}"
        )


def _check_letters(word: str) -> None:
    """Refuse what this process's locale could not decode; stored as UTF-8 it would be another name."""
    try:
        word.encode("utf-8")
    except UnicodeEncodeError as error:
        escaped = word.encode("utf-8", "backslashreplace").decode()
        raise ConfigError(
            f"{escaped}: the locale here ({sys.getfilesystemencoding()}) has no such letters: set LC_ALL=C.UTF-8 or "
            "PYTHONUTF8=1"
        ) from error
