"""Signals on disk: computed once per team and probe, written and read piece by piece."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from esmerge.adapters.lora import SPACES
from esmerge.coefficients.distances import Distances
from esmerge.coefficients.types import Granularity, Signals
from esmerge.coefficients.uncertainty import AUTO
from esmerge.core.prompts import Pieces
from esmerge.probe.layout import Layout, signals_of
from esmerge.probe.responses import record
from esmerge.probe.signal_file import SignalFile, SignalReader
from esmerge.probe.store import MemoryStore, Store
from esmerge.specialists.team import Team

SMALL = 2**26  # entries of all experts' dense updates: 256 MiB of scores on disk
DISTANCES = "distances.safetensors"
TENSORS, NAMES = "signals.safetensors", "signals.json"


def record_signals(
    team: Team, prompts: Sequence[Pieces], batch_size: int, spaces: Sequence[str], score: str, folder: Path
) -> None:
    """Read the probe once and leave its signals in a folder.

    On a GPU they are gathered there, so that nothing waits for a copy, and written at the end; else they go to disk
    as they come, and memory does not grow with the number of layers or prompts.

    Args: as of ``responses.record``.

    Raises:
        InputError: a modality of the team is in no prompt.
    """
    on_gpu = team.backbone.device.type != "cpu"
    gathered: list[MemoryStore] = []
    with ExitStack() as files:

        def open_store(layout: Layout) -> Store:
            if on_gpu:
                gathered.append(MemoryStore(layout.shapes, team.backbone.device))
                return gathered[0]
            return files.enter_context(SignalFile(folder / TENSORS, layout.shapes))

        layout = record(team, prompts, batch_size, spaces, score, open_store)
    for store in gathered:
        save_file(store.finished(), folder / TENSORS)
    (folder / NAMES).write_text(json.dumps(layout.names()))


def load_signals(folder: Path) -> Signals:
    """The signals of a folder, read from disk when they are looked at, responses some layers at a time."""
    return signals_of(json.loads((folder / NAMES).read_text()), SignalReader(folder / TENSORS))


def probed_spaces(team: Team, space: str) -> list[str]:
    """The merge spaces that one pass scores: both, where scores of dense updates are small, so none is probed twice."""
    first = next(iter(team.adapters.values()))
    entries = sum(entry.numel for entry in first.header.values())
    return list(SPACES) if entries * len(team.adapters) <= SMALL else [space]


def distance_settings(granularity: Granularity) -> dict[str, Any]:
    """What distances depend on beside the signals; where directions are added until it suffices, on T and a too."""
    names = ["projections", "power", "resamples"]
    if granularity.projections == AUTO:
        names += ["tolerance", "temperature", "cross_weight"]
    return {name: getattr(granularity, name) for name in names}


def save_distances(found: Distances, folder: Path) -> None:
    """Write distances to a folder."""
    tensors = {"gaps": found.gaps, "counts": found.counts, "resampled": found.resampled}
    power = torch.tensor(found.power, dtype=torch.float64)
    save_file({"power": power, **{k: v.contiguous() for k, v in tensors.items()}}, folder / DISTANCES)


def load_distances(folder: Path) -> Distances:
    """Read what ``save_distances`` wrote."""
    tensors = load_file(folder / DISTANCES)
    return Distances(tensors["gaps"], tensors["counts"], float(tensors["power"]), tensors["resampled"])
