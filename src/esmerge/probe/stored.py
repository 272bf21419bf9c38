"""Signals on disk: computed once per set of specialists and probe, written and read segment by segment."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file, save_file

from esmerge.adapters.lora import SPACES
from esmerge.coefficients.distances import Distances
from esmerge.coefficients.types import ESConfig, Signals
from esmerge.coefficients.uncertainty import AUTO
from esmerge.core.prompts import Prompt
from esmerge.probe.execution import Execution, in_smaller_passes, suited
from esmerge.probe.layout import Layout, SignalNames, signals_of
from esmerge.probe.responses import record
from esmerge.probe.signal_file import SignalFile, SignalReader
from esmerge.probe.store import Store
from esmerge.probe.streamed import StreamedStore
from esmerge.specialists.specialists import Specialists
from esmerge.storage.files import read_json, write_json

DISTANCES = "distances.safetensors"
TENSORS, NAMES = "signals.safetensors", "signals.json"


def record_signals(
    specialists: Specialists,
    prompts: Sequence[Prompt],
    batch_size: int,
    spaces: Sequence[str],
    score: str,
    folder: Path,
) -> None:
    """Read the probe once and leave its signals in a folder.

    They go to disk as they come, so memory does not grow with the number of layers or prompts; a GPU goes on computing
    meanwhile. Where a pass finds no room in memory, the probe is read again in passes of half the size.

    Args: as of ``responses.record``.

    Raises:
        InputError: a modality of the specialists is in no prompt.
    """
    device = specialists.backbone.device

    def read(execution: Execution) -> Layout:
        with ExitStack() as files:

            def open_store(layout: Layout) -> Store:
                file = files.enter_context(SignalFile(folder / TENSORS, layout.shapes))
                if device.type != "cuda":
                    return file
                return files.enter_context(StreamedStore(file, layout.shapes, device))

            return record(specialists, prompts, batch_size, spaces, score, open_store, execution)

    write_json(folder / NAMES, in_smaller_passes(read, suited(device)).names())


def load_signals(folder: Path) -> Signals:
    """The signals of a folder, read from disk when they are looked at, responses some layers at a time."""
    return signals_of(cast(SignalNames, read_json(folder / NAMES)), SignalReader(folder / TENSORS))


def probed_spaces(specialists: Specialists, space: str, most: int = 2**26) -> list[str]:
    """The merge spaces that one pass scores: both, where scores of dense updates are small, so none is probed twice.

    A quantised backbone has no gradients with respect to its weights, and so no scores of dense updates.

    Args:
        space: the one that is asked for.
        most: entries of all experts' dense updates that are small; by default 256 MiB of scores on disk.
    """
    first = next(iter(specialists.adapters.values()))
    entries = sum(entry.numel for entry in first.header.values())
    differentiable = all(weight.is_floating_point() for weight in specialists.backbone.model.parameters())
    return list(SPACES) if differentiable and entries * len(specialists.adapters) <= most else [space]


def distance_settings(granularity: ESConfig) -> dict[str, object]:
    """What distances depend on beside the signals; where directions are added until it suffices, on T and a too."""
    settings: dict[str, object] = {
        "projections": granularity.projections,
        "power": granularity.power,
        "resamples": granularity.resamples,
    }
    if granularity.projections == AUTO:
        settings |= {"tolerance": granularity.tolerance, "temperature": granularity.temperature}
        settings |= {"cross_weight": granularity.cross_weight}
    return settings


def save_distances(distances: Distances, folder: Path) -> None:
    """Write distances to a folder."""
    tensors = {"gaps": distances.gaps, "counts": distances.counts, "resampled": distances.resampled}
    power = torch.tensor(distances.power, dtype=torch.float64)
    save_file({"power": power, **{k: v.contiguous() for k, v in tensors.items()}}, folder / DISTANCES)


def load_distances(folder: Path) -> Distances:
    """Read what ``save_distances`` wrote."""
    tensors = load_file(folder / DISTANCES)
    return Distances(tensors["gaps"], tensors["counts"], float(tensors["power"]), tensors["resampled"])
