"""The console script: ``esmerge VERB …`` does what ``python -m src.VERB …`` does in a checkout."""

from __future__ import annotations

import importlib
import os
import sys

import esmerge
from esmerge.core.command import SCRIPT
from esmerge.core.terminal import show_everywhere

VERBS = {  # verb -> its module, which is imported when it is asked for, and what it does
    "sweep": ("esmerge.cli.sweep", "merge the specialists, ask the benchmarks, report"),
    "merge": ("esmerge.cli.merge", "merge adapters of your own"),
    "extract": ("esmerge.cli.extract", "LoRA factors of a full fine-tune"),
    "unpack": ("esmerge.cli.unpack", "take a released specialist apart"),
    "export-coefficients": ("esmerge.cli.export_coefficients", "a merge's coefficients as the authors' files"),
    "train": ("esmerge.cli.train", "train a set of specialists, or take it from the cache"),
    "status": ("esmerge.cli.status", "how far a sweep is, from any shell"),
    "report": ("esmerge.cli.report", "rebuild the tables and figures of a sweep"),
    "tasks": ("esmerge.cli.tasks.main", "fetch, verify and list the benchmarks' tables"),
}
HELP = ("help", "-h", "--help")


def usage() -> str:
    """The verbs with a line each."""
    lines = [f"  {SCRIPT} {verb:<19} {line}" for verb, (_, line) in VERBS.items()]
    return "\n".join(
        [f"{SCRIPT} {esmerge.__version__}: {esmerge.__doc__}", *lines, f"{SCRIPT} VERB --help says what a verb takes."]
    )


def main() -> None:
    """Hand the rest of the command line to the verb's own main; exits with 1 where there is no such verb."""
    show_everywhere()
    verb, *arguments = sys.argv[1:] or ["--help"]
    if verb in HELP:
        print(usage())
    elif verb == "--version":
        print(f"{SCRIPT} {esmerge.__version__}")
    elif verb not in VERBS:
        sys.exit(f"error: unknown verb {verb!r}: expected one of {', '.join(VERBS)}; {SCRIPT} --help says what they do")
    else:
        sys.argv = [f"{SCRIPT} {verb}", *arguments]
        sys.path.append(os.getcwd())  # for encoders of the user's; last, so that no folder there hides a library
        importlib.import_module(VERBS[verb][0]).main()
