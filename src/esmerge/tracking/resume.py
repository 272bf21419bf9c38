"""How a sweep that was stopped goes on: where its folder lies, and the command that finds it again."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from esmerge.core.command import command
from esmerge.core.errors import ConfigError
from esmerge.storage.files import write_text
from esmerge.tracking.results import COMMAND, latest_sweep

OUTPUTS = "outputs"
LATEST = "latest"
FOLDERS = ("hydra.sweep.dir", "hydra.run.dir")
RESERVED = ("cache", "adapters")  # folders under outputs that are no sweeps


def sweep_folder_name(sweep: str | int | None, resume: str | None, now: str) -> str:
    """Name of the sweep's folder under ``outputs``: the given one, the newest one, or the time.

    Args:
        sweep: a name of the user's; None for none.
        resume: ``latest`` for the sweep whose runs changed last; None for a new one.
        now: date and time.

    Raises:
        ConfigError: the name is no plain folder name, both are given, or ``resume`` is something else.
        StoreError: there is no sweep to go on with.
    """
    if resume not in (None, LATEST):
        raise ConfigError(f"resume={resume!r}: expected {LATEST}; to go on in a sweep by its name use sweep=NAME")
    if resume and sweep is not None:
        raise ConfigError(f"sweep={sweep} and resume={resume} both name a folder: give one of them")
    if resume:
        return latest_sweep(OUTPUTS, begun=True).name
    if sweep is None:
        return now
    name = str(sweep)
    if not name or name != Path(name).name or name.startswith(".") or name in RESERVED:
        raise ConfigError(
            f"sweep={sweep!r}: expected a name for a folder under {OUTPUTS}, without a slash or a leading dot, and not "
            f"{' or '.join(RESERVED)}; for a folder elsewhere use hydra.sweep.dir=PATH"
        )
    return name


def name_sweep_folders() -> None:
    """Let configs say ``${esmerge.sweep_folder:SWEEP,RESUME,NOW}``; one answer for all jobs of a command."""
    OmegaConf.register_new_resolver("esmerge.sweep_folder", sweep_folder_name, replace=True, use_cache=True)


def resuming_command(folder: Path, words: Sequence[str] | None = None) -> str:
    """The command that goes on in a sweep's folder.

    Args:
        words: of the command line that started it; None for that of this process.
    """
    words = sys.argv[1:] if words is None else list(words)
    if not any(word.startswith(FOLDERS) for word in words):
        words = [word for word in words if not word.startswith(("sweep=", "resume="))] + [f"sweep={folder.name}"]
    return f"{command('sweep')} {shlex.join(words)}"


def announce(folder: Path) -> str:
    """Make the sweep folder, store the command that goes on in it, and return what to tell the user.

    Raises:
        OSError: the folder cannot be written.
    """
    resuming, stored = resuming_command(folder), folder / COMMAND
    begun = stored.read_text(encoding="utf-8").strip() if stored.exists() else resuming
    write_text(stored, resuming + "\n")
    lines = [f"sweep folder {folder}; if it is stopped, this goes on from what is finished:", f"  {resuming}"]
    if begun != resuming:
        lines.append(f"until now the sweep there was:\n  {begun}")
    return "\n".join(lines)
