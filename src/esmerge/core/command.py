"""How a command of this program is written, in the way in which the running process was started."""

from __future__ import annotations

import sys
from itertools import takewhile

from omegaconf import OmegaConf

from esmerge.core.paths import CONF

SCRIPT = "esmerge"


def command(verb: str) -> str:
    """``esmerge VERB`` under the console script, which says so in ``sys.argv[0]``; else ``python -m src.VERB``."""
    return f"{SCRIPT} {verb}" if sys.argv[0].startswith(f"{SCRIPT} ") else f"python -m src.{verb.replace('-', '_')}"


def about(verb: str) -> str:
    """What a command does, with examples: the comment that its config opens with; and where its settings are told."""
    name = verb.replace("-", "_")
    config = CONF / f"{name}.yaml"
    lines = config.read_text(encoding="utf-8").splitlines()
    words = [line.removeprefix("#").strip() for line in takewhile(lambda line: line.startswith("#"), lines)]
    words = [f"    {line}" if line.startswith("python ") else line for line in words]
    text = "\n".join(words).replace(f"python -m src.{name} ", f"{command(verb)} ")
    return f"{text}\n\nA word on every setting: {config}\n"


def explain_commands_in_help() -> None:
    """Let configs say ``${esmerge.command:VERB}`` and ``${esmerge.about:VERB}`` at the head of Hydra's ``--help``."""
    OmegaConf.register_new_resolver("esmerge.command", command, replace=True)
    OmegaConf.register_new_resolver("esmerge.about", about, replace=True)
