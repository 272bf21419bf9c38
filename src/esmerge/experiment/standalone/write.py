"""Carrying a planned merge out: probe, merge module by module, write a whole folder or none."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.filesize import decimal
from safetensors import SafetensorError

from esmerge.adapters.dense import as_adapter
from esmerge.adapters.export import bake
from esmerge.adapters.lora import LazyModules, LoraFactors, LoraState
from esmerge.adapters.peft_folder import CARD, write_adapter
from esmerge.coefficients.summary import summarise
from esmerge.core.arrays import as_arrays
from esmerge.core.errors import StoreError
from esmerge.experiment.card import Shares
from esmerge.experiment.merge_run import gather_inputs
from esmerge.experiment.models import load_models
from esmerge.experiment.standalone.card import hashing, merge_card
from esmerge.experiment.standalone.coefficient_files import merge_by_files
from esmerge.experiment.standalone.plan import MergePlan
from esmerge.merging.api import Merged, MergeRequest
from esmerge.merging.run import merge
from esmerge.model.threads import use_threads
from esmerge.report.figures import write_layer_map
from esmerge.storage.tensor_stream import write_tensors
from esmerge.storage.whole_folder import whole_folder

COEFFICIENTS, FIGURE = "coefficients.safetensors", "coefficients.png"


@dataclass(frozen=True)
class MergeResult:
    """What was written.

    Attributes:
        folder: where.
        ranks: module -> rank of its update; empty for a whole model.
        seconds: that it took.
        lost: what a truncation took away, ``‖cut‖ / ‖whole‖`` over all modules; 0 where nothing was cut.
    """

    folder: Path
    ranks: dict[str, int]
    seconds: float
    lost: float = 0.0


def carry_out(plan: MergePlan) -> MergeResult:
    """Merge and write; at ``out`` there is the whole result, or what was there before.

    Raises:
        StoreError: the folder cannot be written, e.g. because the disk is full.
        BenchError: the probe or the merge cannot be done; the message says why.
    """
    clock, out = time.perf_counter(), plan.request.output.folder
    compute = plan.request.spec.sweep.compute
    use_threads(compute.threads, compute.device)
    with (
        _disk_errors(plan),
        plan.experts.reading(),
        whole_folder(out) as folder,
        tempfile.TemporaryDirectory(dir=folder) as scratch,
        hashing(plan) as digests,
    ):
        merged = _merge(plan, Path(scratch))
        shares = _write_coefficients(merged, folder, out.name)
        ranks = _write_model(plan, merged, folder) if plan.request.output.bake else _write_adapter(plan, merged, folder)
        with (folder / CARD).open("a", encoding="utf-8") as file:
            file.write("\n" + merge_card(plan, digests(), ranks, shares, FIGURE))
    lost = float(merged.state.notes.get("svd_relative_residual", 0.0))
    return MergeResult(out, ranks, time.perf_counter() - clock, lost)


@contextmanager
def _disk_errors(plan: MergePlan) -> Iterator[None]:
    """Turn errors of the file system into a message that a user can act on."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        cache = plan.request.spec.sweep.cache
        if cache and isinstance(error, OSError) and Path(cache) in Path(str(error.filename)).parents:
            raise StoreError(
                f"cache={cache} could not be written ({error}): make room or give another folder"
            ) from error
        raise StoreError(
            f"out={plan.request.output.out} could not be written ({error}): nothing is left of it; it needs at least "
            f"{decimal(plan.least_output())}: make room or give a folder on another disk"
        ) from error


def _merge(plan: MergePlan, scratch: Path) -> Merged:
    spec, files = plan.request.spec, plan.request.output.coefficients
    if plan.request.probe is not None:
        sweep = replace(spec.sweep, cache=spec.sweep.cache or str(scratch))
        inputs, _ = gather_inputs(spec, load_models(sweep))
    else:
        inputs = MergeRequest(plan.experts, plan.space, spec.sweep.seed, device=torch.device(spec.sweep.compute.device))
    if files.used:
        return merge_by_files(inputs, spec.method.settings, files, spec.sweep.granularity.name)
    if spec.uses_granularity:
        inputs = replace(inputs, granularity=spec.sweep.granularity)
    return merge(spec.method.name, inputs, spec.method.settings)


def _write_coefficients(merged: Merged, folder: Path, title: str) -> Shares | None:
    if merged.coefficients is None:
        return None
    tensors = merged.coefficients.tensors()
    write_tensors(folder / COEFFICIENTS, tensors)
    summary = summarise(as_arrays(tensors))
    write_layer_map((summary.experts, summary.layer_shares), title, folder / FIGURE)
    return summary.experts, summary.layer_shares


def _write_adapter(plan: MergePlan, merged: Merged, folder: Path) -> dict[str, int]:
    state = merged.state if isinstance(merged.state, LoraState) else as_adapter(merged.state)
    facts = write_adapter(one_scale(state), folder, plan.request.output.folder.name, plan.backbone)
    return {module: rank for module, (rank, _) in facts.items()}


def _write_model(plan: MergePlan, merged: Merged, folder: Path) -> dict[str, int]:
    """Bake beside the other files and move up: baking wants a folder of its own."""
    bake(plan.backbone, merged.state, folder / "baked", placements=plan.placements)
    for path in (folder / "baked").iterdir():
        path.rename(folder / path.name)
    (folder / "baked").rmdir()
    return {}


def one_scale(state: LoraState) -> LoraState:
    """The same updates with the first module's scale everywhere, other scales taken into B.

    Some loaders read one alpha for a whole adapter and would apply other modules' updates at the wrong scale.
    """
    first = next(iter(state.modules))
    cached = {first: state.modules[first]}  # until it is used, so that no module is read twice
    scale = cached[first].scale

    def factors(module: str) -> LoraFactors:
        original = cached.pop(module) if module in cached else state.modules[module]
        if original.scale == scale:
            return original
        return LoraFactors(original.a, original.b * (original.scale / scale), scale)

    return replace(state, modules=LazyModules(state.modules, factors))
