"""How a command of this program is written, in the way in which the running process was started."""

from __future__ import annotations

import sys

from omegaconf import OmegaConf

SCRIPT = "esmerge"


def command(verb: str) -> str:
    """``esmerge VERB`` under the console script, which says so in ``sys.argv[0]``; else ``python -m src.VERB``."""
    return f"{SCRIPT} {verb}" if sys.argv[0].startswith(f"{SCRIPT} ") else f"python -m src.{verb.replace('-', '_')}"


def name_commands_in_help() -> None:
    """Let configs say ``${esmerge.command:VERB}``, with which Hydra's ``--help`` opens."""
    OmegaConf.register_new_resolver("esmerge.command", command, replace=True)
