"""One measurement in a process of its own, and the checkpoint that all of them load."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.speed.models import shape

from esmerge.specialists.families.language_model.smollm2 import prepare_checkpoint


def measurement(module: str, words: Sequence[str]) -> dict[str, float]:
    """The JSON object that ``python -m module words`` prints last.

    Raises:
        RuntimeError: the process failed; with what it said.
    """
    process = subprocess.run([sys.executable, "-m", module, *words], capture_output=True, text=True, check=False)
    if process.returncode:
        raise RuntimeError(f"{module} {' '.join(words)} failed:\n{process.stderr}")
    measured: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
    return measured


@contextmanager
def with_checkpoint(options: argparse.Namespace, words: Sequence[str]) -> Iterator[list[str]]:
    """A command's words with ``--checkpoint`` made once for all measurements; ``options`` gets its shape.

    Raises:
        BenchError: there is no such checkpoint.
    """
    with tempfile.TemporaryDirectory() as place:
        if not options.checkpoint:
            yield list(words)
            return
        folder = prepare_checkpoint(options.checkpoint, Path(place) / "checkpoint")
        options.layers, options.hidden, options.words = shape(folder)
        yield [*words, "--checkpoint", folder]
