"""Where a result came from: code, libraries, machine, configuration, data."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from esmerge import __version__
from esmerge.core.paths import CHECKOUT, IN_CHECKOUT
from esmerge.core.secrets import redacted
from esmerge.tracking.store import utc_now

LIBRARIES = [
    *("torch", "transformers", "peft", "datasets", "accelerate", "safetensors"),
    *("numpy", "pandas", "scipy", "scikit-learn", "rdkit"),
    *("hydra-core", "omegaconf", "wandb", "matplotlib"),
]


def provenance(config_hash: str, checksums: Mapping[str, str], seed: int | None) -> dict[str, object]:
    """The record of a run.

    Args:
        config_hash: of the resolved configuration.
        checksums: data set -> SHA-256.
        seed: the run's seed.
    """
    return {
        "time": utc_now(),
        "command": [Path(sys.argv[0]).name, *map(redacted, sys.argv[1:])],
        "version": __version__,
        "git": git_state(CHECKOUT if IN_CHECKOUT else None),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),  # their number changes rounding, and so what is trained
        "libraries": library_versions(),
        "config_hash": config_hash,
        "seed": seed,
        "data": dict(checksums),
    }


@cache
def library_versions() -> dict[str, str | None]:
    """Installed version of each library that can change a number; None where it is not installed."""
    return {name: _version(name) for name in LIBRARIES}


@cache  # the code that runs is the code that was loaded
def git_state(checkout: Path | None) -> dict[str, object]:
    """Revision of the program's own checkout and whether it was changed since.

    Args:
        checkout: its top folder; None for an installed wheel.

    Returns:
        ``revision`` and ``dirty``; nulls where the folder is not the top of a repository: one that a program was
        installed into or copied into is somebody else's.
    """
    top = None if checkout is None else _git(checkout, "rev-parse", "--show-toplevel")
    if checkout is None or top is None or Path(top).resolve() != checkout.resolve():
        return {"revision": None, "dirty": None}
    changes = _git(checkout, "status", "--porcelain")
    return {"revision": _git(checkout, "rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        process = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return os.fsdecode(process.stdout).strip() if process.returncode == 0 else None


def _version(name: str) -> str | None:
    loaded = sys.modules.get(name)
    if name == "torch" and loaded is not None:
        return str(loaded.__version__)  # with the build, such as +cu130, which the package's metadata may leave out
    try:
        return version(name)
    except PackageNotFoundError:
        return None
