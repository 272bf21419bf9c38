"""Carrying a planned extraction out: module by module, a whole folder or none."""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError
from tqdm import tqdm

from esmerge.adapters.checkpoint import difference
from esmerge.adapters.lora import PREFIX, LazyModules, LoraFactors, LoraState
from esmerge.adapters.peft_folder import write_adapter
from esmerge.core.command import command
from esmerge.core.devices import moved
from esmerge.core.errors import StoreError
from esmerge.core.names import layer_of
from esmerge.core.progress import progress
from esmerge.experiment.extraction.plan import ExtractionPlan, describe
from esmerge.merging.ops.low_rank import factorise
from esmerge.model.threads import use_threads
from esmerge.storage.disk import disk_message
from esmerge.storage.files import write_table
from esmerge.storage.whole_folder import whole_folder

REPORT = "extraction.csv"


@dataclass(frozen=True)
class Loss:
    """Squared Frobenius norms of a module's update, of what its factors lost, and of the backbone's weight."""

    update: float
    lost: float
    weight: float
    rank: int

    @property
    def residual(self) -> float:
        """Share of the update's norm that the factors do not hold."""
        return math.sqrt(self.lost / self.update) if self.update else 0.0

    @property
    def relative(self) -> float:
        """The update's norm over the weight's."""
        return math.sqrt(self.update / self.weight) if self.weight else math.nan


@dataclass(frozen=True)
class ExtractionResult:
    """What was written.

    Attributes:
        folder: where.
        losses: module -> what its factors hold.
        seconds: that it took.
    """

    folder: Path
    losses: Mapping[str, Loss]
    seconds: float

    def residual(self) -> float:
        """Share of the norm of all updates together that the factors do not hold."""
        return pooled(list(self.losses.values()))

    def by_layer(self) -> dict[int, float]:
        """Decoder layer -> the same for its modules."""
        layers: dict[int, list[Loss]] = {}
        for module, loss in self.losses.items():
            layers.setdefault(layer_of(module), []).append(loss)
        return {layer: pooled(losses) for layer, losses in layers.items()}


def pooled(losses: list[Loss]) -> float:
    """Relative residual of several modules as one."""
    update = sum(loss.update for loss in losses)
    return math.sqrt(sum(loss.lost for loss in losses) / update) if update else 0.0


def extract(plan: ExtractionPlan) -> ExtractionResult:
    """Factors of every module by truncated SVD, and a report; at ``out`` there is all of it, or what was there before.

    Raises:
        StoreError: the folder cannot be written, e.g. because the disk is full.
    """
    clock, settings = time.perf_counter(), plan.settings
    use_threads(settings.threads, settings.device)
    losses: dict[str, Loss] = {}
    try:
        with whole_folder(settings.folder) as folder, plan.base.kept_open(), plan.tuned.kept_open():
            with progress("extracting", len(plan.modules)) as bar:
                state = LoraState(LazyModules(plan.modules, lambda module: _factors(plan, module, losses, bar)))
                write_adapter(state, folder, settings.folder.name, plan.backbone)
            result = ExtractionResult(settings.folder, losses, time.perf_counter() - clock)
            write_table(folder / REPORT, report(plan, losses))
            with (folder / "README.md").open("a", encoding="utf-8") as file:
                file.write("\n" + _card(plan, result))
    except (OSError, SafetensorError) as error:
        raise StoreError(disk_message(error, settings.folder)) from error
    return result


def report(plan: ExtractionPlan, losses: Mapping[str, Loss]) -> pd.DataFrame:
    """One row for each extracted module, then one for each setting and each tensor that changed and was left out.

    ``norm`` is of the update, ``relative_norm`` over the backbone's weight, ``residual`` the share of ``norm`` that the
    factors do not hold: 1 for what was left out.
    """
    rows = [
        {
            "tensor": plan.modules[module].tensor,
            "module": module.removeprefix(PREFIX),
            "layer": str(layer_of(module)),
            "rank": loss.rank,
            "norm": math.sqrt(loss.update),
            "relative_norm": loss.relative,
            "residual": loss.residual,
            "remark": "",
        }
        for module, loss in losses.items()
    ]
    for tensor, change in plan.all_left_out.items():
        columns = {"module": "", "layer": "", "rank": 0, "norm": change.norm, "relative_norm": change.relative}
        rows.append({"tensor": tensor, **columns, "residual": 1.0, "remark": change.remark or "left out"})
    return pd.DataFrame(rows)


def _factors(plan: ExtractionPlan, module: str, losses: dict[str, Loss], bar: tqdm) -> LoraFactors:
    """Factors of scale 1; what they hold is noted in ``losses``, and the bar goes on."""
    device = torch.device(plan.settings.device)
    base, tuned = (moved(weight.contiguous(), device) for weight in plan.weights(module))
    factored = factorise(difference(base, tuned), plan.settings.rank, getattr(torch, plan.settings.dtype))
    weight = float(base.float().square().sum(dtype=torch.float64))
    losses[module] = Loss(factored.norm, factored.lost, weight, factored.factors.rank)
    bar.update()
    return factored.factors


def _card(plan: ExtractionPlan, result: ExtractionResult) -> str:
    settings = plan.settings
    lines = [
        f"- extracted from `{settings.tuned_folder}` by truncated SVD of its weights minus those of `{plan.backbone}`",
        f"- rank {settings.rank}; {result.residual():.3g} of the updates' norm is not in the factors",
        f"- {len(plan.left_out)} tensors that changed were left out; {REPORT} lists every module and tensor",
        *(f"- left out: {name} ({describe(change)})" for name, change in plan.settings_left_out.items()),
    ]
    if plan.tuned.others:
        lines.append(f"- {len(plan.tuned.others)} tensors outside of `{settings.part}…` stay in the fine-tune's folder")
    spoken = shlex.join([*command("extract").split(), *sys.argv[1:]])
    return "\n".join([*lines, "", "```", spoken, "```"]) + "\n"
