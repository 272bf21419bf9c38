"""What the probe measured, and the weights that came of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from esmerge.coefficients.summary import LAYER
from esmerge.core.methods import MethodKind
from esmerge.core.names import layer_of
from esmerge.report.load import Row, SweepResults
from esmerge.report.tidy.weights import shown
from esmerge.storage.tensor_arrays import TensorArrays

ENDINGS = ("weight", "delta", "lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B")
QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}
MOST_SPREADS = 3  # rows of ES-Merging in a figure: each is a row of panels for every expert
BLOCKS, LENGTH = 128, 32  # of entries that stand for a tensor's: dense coefficients of a sweep may be many GB


def distances_table(sweep: SweepResults) -> pd.DataFrame:
    """Columns ``probe, seed, expert, modality, own, layer, distance, increment``.

    Distances depend on experts, probe and seed, not on granularity, merge space or constants, so that each probe and
    seed is read from one run.
    """
    parts: dict[tuple[str, str], pd.DataFrame] = {}
    runs = sweep.results.drop_duplicates("run").set_index("run")
    for row in sweep.of_kind(MethodKind.ES):
        for seed, run in row.runs.items():
            facts = runs.loc[run]
            probe = ", ".join(filter(None, [str(facts["specialists"]), str(facts["probe"])]))
            table = sweep.run(run).read_layer_distances() if (probe, seed) not in parts else None
            if table is not None:
                parts[probe, seed] = table.assign(probe=probe, seed=seed)
    return pd.concat(parts.values(), ignore_index=True) if parts else pd.DataFrame()


def elements_table(sweep: SweepResults) -> pd.DataFrame:
    """Columns ``title, module, expert, layer, q05, q25, q50, q75, q95`` of the first seed of ES rows; of many, the
    most accurate."""
    parts = []
    for row in shown(sweep, MOST_SPREADS, finer=True):
        path = sweep.run(row.key).coefficients
        if path.exists():
            parts += [{"title": _title(row), **facts} for facts in _spreads(path)]
    return pd.DataFrame(parts)


def _title(row: Row) -> str:
    return row.title if len(row.runs) == 1 else f"{row.title}, seed {next(iter(row.runs))}"


def _spreads(path: Path) -> Iterator[dict[str, object]]:
    """Quantiles of each expert's weights by module and layer; one tensor is in memory at a time."""
    tensors = TensorArrays(path)
    experts = [name.removesuffix(LAYER) for name in tensors if name.endswith(LAYER)]
    samples: dict[tuple[str, str, int], list[np.ndarray]] = {}
    for name in tensors:
        expert = next(expert for expert in experts if name.startswith(f"{expert}."))
        tensor_name = name.removeprefix(f"{expert}.")
        if not name.endswith(LAYER):
            samples.setdefault((module_of(tensor_name), expert, layer_of(tensor_name)), []).append(
                tensors.sample(name, BLOCKS, LENGTH)
            )
    ordered = sorted(samples.items(), key=lambda item: (item[0][0], experts.index(item[0][1]), item[0][2]))
    for (module, expert, layer), values in ordered:
        quantiles = np.quantile(np.concatenate(values), list(QUANTILES.values()))
        yield {"module": module, "expert": expert, "layer": layer, **dict(zip(QUANTILES, quantiles, strict=True))}


def module_of(name: str) -> str:
    """What a coefficient tensor's module is called in every layer, e.g. ``q_proj``."""
    return [part for part in name.split(".") if part not in ENDINGS][-1]
