"""The benchmarks' tables: ``python -m src.tasks VERB [NAME …] [key=value …]``.

    list    [BENCHMARK …] root=FOLDER [rejects=FILE]   counts, balance and refusals (also without the word list)
    leakage [BENCHMARK …] root=FOLDER                  what test questions share with training
    floors  [BENCHMARK …] root=FOLDER [cards=FOLDER]   what can be had without a model; writes it into the data cards
    fetch   [TABLE …]     root=FOLDER [wheel=FILE]     tables from their official sources; without names, what there is
    verify  [TABLE …]     root=FOLDER                  their checksums anew; without names, of all that are there

list, leakage and floors also take suite=NAME (instead of names; default real), seed=0, limit=N (test questions),
split=KIND and identity=RULE (others than the config's), language=english and config_dir=FOLDER (benchmarks and suites
of your own).
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

from omegaconf import DictConfig

from esmerge.cli.tasks import floors, leakage, listing
from esmerge.cli.tasks.options import read_options
from esmerge.core.command import command
from esmerge.core.errors import BenchError, ConfigError
from esmerge.core.terminal import show_everywhere
from esmerge.tasks.fetch.commands import fetch, verify

HELP = ("help", "-h", "--help")


class Verb(NamedTuple):
    """What a word does: the options it takes with their defaults, and a function of the names and the options."""

    options: dict[str, object]
    run: Callable[[Sequence[str], DictConfig], None]


VERBS = {
    "list": Verb(listing.OPTIONS, listing.listing),
    "leakage": Verb(leakage.OPTIONS, leakage.report_leakage),
    "floors": Verb(floors.OPTIONS, floors.report_floors),
    "fetch": Verb({"root": None, "wheel": None}, lambda names, options: fetch(names, options.root, options.wheel)),
    "verify": Verb({"root": None}, lambda names, options: verify(names, options.root)),
}


def dispatch(arguments: Sequence[str]) -> None:
    """Do what the first word says; ``list`` if there is none.

    Raises:
        ConfigError: an unknown verb, name or option.
        InputError: what the verb raises.
    """
    words = [argument for argument in arguments if "=" not in argument]
    if any(word in HELP for word in words):
        print((__doc__ or "").replace("``", "").replace("python -m src.tasks", command("tasks")))
        return
    verb = words.pop(0) if words else "list"
    if verb not in VERBS:
        verbs = ", ".join(VERBS)
        raise ConfigError(f"unknown command {verb!r}: expected {verbs}, then names, then key=value; --help says more")
    options = read_options(VERBS[verb].options, [argument for argument in arguments if "=" in argument])
    VERBS[verb].run(words, options)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line around ``dispatch``: warnings and errors as one line each; exits with 1 after an error."""
    show_everywhere()
    warnings.showwarning = lambda message, *details, **keywords: print(f"warning: {message}", file=sys.stderr)
    try:
        dispatch(sys.argv[1:] if arguments is None else arguments)
    except BenchError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename} cannot be used ({error.strerror}): give a folder that can be written")
