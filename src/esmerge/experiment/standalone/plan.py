"""What a merge will do and cost, found from headers and texts alone: no weight of the backbone is loaded."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.filesize import decimal
from torch import nn

from esmerge.adapters.experts import ValidatedExperts, validate_experts
from esmerge.adapters.export import Placements
from esmerge.adapters.lora import LoraState, some
from esmerge.calibration.api import STATISTICS, StatisticInfo
from esmerge.core.errors import AdapterError, ConfigError, StoreError
from esmerge.experiment.standalone.request import StandaloneRequest
from esmerge.model.backbone import Backbone, decoder_layers
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.specialists.api import Context
from esmerge.specialists.families.custom.backbone import load_tokenizer, located, skeleton
from esmerge.specialists.families.custom.experts import check_fit, completed, missing_modules, on_backbone, open_experts
from esmerge.specialists.families.custom.family import assembled
from esmerge.specialists.families.custom.placement import weight_placements
from esmerge.specialists.families.custom.settings import CustomSettings
from esmerge.storage.cache import Cache
from esmerge.storage.usable import check_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BACKWARD = 2  # a backward pass takes about twice a forward pass
DISK = 300e6  # bytes per second, of a usual disk
TRIAL = 768  # width of the matrices whose product is timed


@dataclass(frozen=True)
class MergePlan:
    """A merge that may begin.

    Attributes:
        request: the checked configuration.
        backbone: folder or hub id.
        experts: name -> adapter with the modules of all; headers alone have been read.
        missing: expert -> modules that it lacks, taken for updates of zero.
        depth: decoder layers of the backbone.
        weights: parameters of the backbone.
        weight_bytes: of one parameter in memory.
        samples: probe prompts; 0 where the method reads none.
        tokens: positions of all prompts; soft tokens are counted as their text's.
        placements: where the checkpoint keeps the weights that a whole model's update is added to; None for an adapter.
    """

    request: StandaloneRequest
    backbone: str
    experts: ValidatedExperts
    missing: Mapping[str, list[str]]
    depth: int
    weights: int
    weight_bytes: int
    samples: int
    tokens: int
    placements: Placements | None = None

    @property
    def space(self) -> str:
        return str(self.request.spec.space)

    def adapter_bytes(self) -> dict[str, int]:
        """Size of each expert's factors."""
        return {name: sum(entry.nbytes for entry in state.header.values()) for name, state in self.experts.items()}

    def remarks(self) -> list[tuple[str, str]]:
        """(expert, what was peculiar about its file) pairs."""
        return [(name, f"{key}: {note}") for name, state in self.experts.items() for key, note in state.notes.items()]

    def least_output(self) -> int:
        """Bytes that are written at least: a factor-space adapter, or the whole model."""
        return self.weights * self.weight_bytes if self.request.output.bake else min(self.adapter_bytes().values())

    def measured_bytes(self) -> int:
        """Size of what the method's statistics keep of the probe, at most; beyond a gigabyte it lies on the disk."""
        widths = {name: _widths(state) for name, state in self.experts.items()}
        return sum(
            info.stored_bytes(settings, of_expert, self.tokens)
            for info, settings in self._statistics()
            if info.stored_bytes is not None
            for of_expert in widths.values()
        )

    def passes(self) -> int:
        """Forward passes through the probe, a backward pass counted as ``BACKWARD`` of them."""
        signals = 1 + len(self.experts) * (1 + BACKWARD) if self.request.spec.uses_granularity else 0
        passes_of_statistics = [1 + BACKWARD * info.gradients for info, _ in self._statistics()]
        return signals + len(self.experts) * sum(passes_of_statistics)

    def is_fitted(self) -> bool:
        """Whether something is fitted step by step at the probe, which ``passes`` counts once."""
        return any(info.fits for info, _ in self._statistics())

    def _statistics(self) -> list[tuple[StatisticInfo, object]]:
        settings = self.request.spec.method.settings.statistics_settings()
        return [(STATISTICS.get(name).info, settings[name]) for name in self.request.spec.method.entry.info.needs]

    def memory(self) -> int:
        """Bytes in memory at the peak, roughly: of the model and all adapters while the probe is read, or of one module
        of each expert where there is none."""
        largest = max(_largest(state) for state in self.experts.values())
        if not self.samples:
            return 8 * len(self.experts) * largest
        return self.weights * self.weight_bytes + sum(self.adapter_bytes().values()) + 8 * len(self.experts) * largest

    def seconds(self) -> float:
        """Time of the work, roughly, at the speed with which this machine multiplies matrices right now."""
        probing = 2 * self.weights * self.tokens * self.passes() / _speed(self.request) if self.tokens else 0.0
        moved = self.least_output() + sum(self.adapter_bytes().values()) + 2 * self.measured_bytes()
        return probing + (moved + (self.weights * self.weight_bytes if self.samples else 0)) / DISK


def plan_merge(request: StandaloneRequest) -> MergePlan:
    """Check the adapters against each other and the backbone, the probe's lines, and the room on the disk.

    Raises:
        AdapterError: the adapters cannot be merged with these settings.
        ConfigError: backbone, tokenizer, encoder or probe file cannot be used.
        InputError: a line of the probe lacks a text, or a text has no tokens.
        StoreError: a folder cannot be written, or the disk has not the room.
    """
    _check_folders(request)
    settings, spec = request.experts, request.spec
    source, opened = settings.source(), open_experts(settings)
    backbone = located(source.path)
    model = skeleton(backbone, source.trust_remote_code)
    named = on_backbone(opened, model, backbone)
    adapters = completed(named, settings.allow_partial)
    experts = validate_experts(adapters, str(spec.space), spec.method.settings.folds_scales())
    check_fit(experts, model, backbone)
    placements = _placements(request, backbone, experts) if request.output.bake else None
    lengths = _lengths(request, settings, model, backbone, experts) if request.probe else []
    plan = MergePlan(
        request=request,
        backbone=backbone,
        experts=experts,
        missing=missing_modules(named),
        depth=len(decoder_layers(model)[1]),
        weights=sum(parameter.numel() for parameter in model.parameters()),
        weight_bytes=_bytes_of(settings.dtype, model),
        samples=len(lengths),
        tokens=sum(lengths),
        placements=placements,
    )
    _check_room(plan)
    return plan


def _lengths(
    request: StandaloneRequest,
    settings: CustomSettings,
    model: PreTrainedModel,
    backbone: str,
    experts: Mapping[str, LoraState],
) -> list[int]:
    """Positions of each prompt, every one of them encoded; what an encoder reads is counted as its text's."""
    hollow = Backbone(model, load_tokenizer(backbone, settings.source().trust_remote_code), backbone, "")
    sweep = request.spec.sweep
    context = Context(sweep.seed, Cache(Path(sweep.cache)), sweep.compute.device)
    specialists = assembled(settings, hollow, experts, context)
    prompts = sweep.probe.entry.function(sweep.probe.settings, specialists, sweep.seed)
    return [len(encoded.ids) for encoded in PromptEncoder(hollow, {}).encode(prompts)]


def _placements(request: StandaloneRequest, backbone: str, experts: Mapping[str, LoraState]) -> Placements:
    """Where the checkpoint keeps the weights that the merge changes."""
    if not Path(backbone).is_dir():
        raise ConfigError(f"bake=true needs the backbone as a folder, {backbone} is a hub id: download it first")
    placements = weight_placements(backbone, request.experts.source().trust_remote_code)
    modules = next(iter(experts.values())).modules
    missing = [module for module in modules if module not in placements]
    if missing:
        raise AdapterError(f"bake=true: {backbone} has no weights for {some(missing)}: copy the backbone again")
    return {module: placements[module] for module in modules}


def _check_folders(request: StandaloneRequest) -> None:
    check_folder(request.output.folder.parent, "out")
    if request.spec.sweep.cache:
        check_folder(Path(request.spec.sweep.cache), "cache")


def _check_room(plan: MergePlan) -> None:
    folder = plan.request.output.folder
    while not folder.exists():
        folder = folder.parent
    free, needed = shutil.disk_usage(folder).free, plan.least_output()
    if free < needed:
        raise StoreError(
            f"out={plan.request.output.out} needs at least {decimal(needed)} and {folder} has {decimal(free)}: "
            "make room or give a folder on another disk"
        )


def _bytes_of(dtype: str, model: nn.Module) -> int:
    kind = getattr(model.config, "dtype", None) if dtype == "auto" else getattr(torch, dtype)
    return torch.empty((), dtype=kind or torch.float32).element_size()


def _widths(state: LoraState) -> list[int]:
    """in_features of every module."""
    return [entry.in_features for entry in state.header.values()]


def _largest(state: LoraState) -> int:
    """Numbers in the largest module's update."""
    return max(entry.numel for entry in state.header.values())


def _speed(request: StandaloneRequest) -> float:
    """Operations per second of a matrix product on the device."""
    device, dtype = request.spec.sweep.compute.device, request.experts.dtype
    kind = torch.float32 if dtype == "auto" else getattr(torch, dtype)
    square = torch.ones(TRIAL, TRIAL, device=device, dtype=kind)
    float((square @ square)[0, 0])  # the first product warms up
    clock = time.perf_counter()
    float((square @ square)[0, 0])
    return 2 * TRIAL**3 / (time.perf_counter() - clock)
