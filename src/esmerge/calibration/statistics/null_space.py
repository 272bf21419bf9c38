"""NSC's coefficients: fitted so that little of a layer's input falls into an adapter's null space (arXiv 2603.26317).

Training a LoRA turns the rows of A towards its task's inputs z: the share of z that A maps to nothing,

    ω_k(z) = √(1 − zᵀ A_kᵀ (A_k A_kᵀ)⁻¹ A_k z / ‖z‖²),

shrinks as performance grows. So the merged model is one in which every expert still meets such inputs: with
coefficients c[i, module] on all adapters, ω_k is averaged over expert k's own unlabelled inputs, over the watched
modules and over the experts, and minimised over c. No output is read. The watched modules are the value projections of
the last quarter of the decoder layers; coefficients above the last of them keep their start.

Differences from the authors' code: the inputs are the probe's prompts, at the positions of the expert's own modality
(``tokens: all`` counts every position, as theirs); Adam stands for AdamW, whose decay of 0.01 would take 0.0006 off a
coefficient in 500 steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from esmerge.adapters.lora import PREFIX
from esmerge.calibration.api import STATISTICS, CalibrationData, StatisticInfo
from esmerge.calibration.fitting import fit, mixture
from esmerge.calibration.statistics.gram import TOKENS
from esmerge.calibration.types import Statistics
from esmerge.calibration.watch import batches, holding, tokens_of
from esmerge.core.errors import ConfigError
from esmerge.core.names import layer_of
from esmerge.core.prompts import Prompt
from esmerge.core.rng import generator
from esmerge.core.validation import above_zero, at_least, check_choice, check_fraction
from esmerge.model.prompt_encoder import Batch
from esmerge.specialists.specialists import Specialists

LEAST = 1e-8  # added to A Aᵀ and to ‖z‖², as the authors do
LEAST_SHARE = 1e-12  # of ω²: at 0 the root has no gradient


@dataclass(frozen=True)
class NullSpaceSettings:
    """Settings of the fit; published values are those of the authors' run on vision-language models.

    Attributes:
        steps: updates. Published: 500, as here.
        rate: the optimiser's. Published: 3e-4, as here.
        start: every coefficient before the fit. Published: 0.4, as here.
        batch: prompts of each expert per step. Published: 1, as here.
        watched: last part of the names of the modules whose inputs are looked at. Published: ``v_proj``, as here.
        depth: share of the decoder layers, the last ones, that they stand in. Published: 0.25, as here.
        tokens: ``own`` counts the positions of the expert's own modality, ``all`` every position of its prompts.
    """

    steps: int = 500
    rate: float = 3e-4
    start: float = 0.4
    batch: int = 1
    watched: str = "v_proj"
    depth: float = 0.25
    tokens: str = "own"

    def __post_init__(self) -> None:
        at_least(self, "method.null_space", 1, "steps", "batch")
        at_least(self, "method.null_space", 0, "start")
        above_zero(self, "method.null_space", "rate")
        check_fraction("null_space.depth", self.depth)
        check_choice("null_space.tokens", self.tokens, TOKENS)


@STATISTICS.register("null_space", NullSpaceSettings, StatisticInfo(gradients=True, fits=True))
def null_space(material: CalibrationData, settings: NullSpaceSettings) -> Statistics:
    """Fitted coefficients: expert -> module -> a single number.

    Raises:
        ConfigError: no coefficient decides what a watched module is given.
        InputError: an expert's modality is in no prompt.
        NumberError: the fit diverged.
    """
    specialists = material.specialists
    modules = list(next(iter(specialists.adapters.values())).modules)
    watched = watched_modules(specialists, settings)
    inverses = {name: projections(specialists, name, watched) for name in specialists.adapters}
    with mixture(specialists.backbone.model, specialists.adapters, modules.index) as mixed:

        def losses(step: int) -> Iterator[Tensor]:
            for name, inverse in inverses.items():
                prompts = drawn(material, name, step, settings.batch)
                (batch,) = batches(specialists, prompts, len(prompts))
                yield null_share(specialists, name, batch, inverse, settings.tokens) / len(inverses)

        start = torch.full_like(mixed.weights, settings.start)
        fit("null space", mixed, start, lambda raw: raw * 1, losses, settings.steps, settings.rate)
        fitted = mixed.weights.detach().float().cpu()
    return {
        name: dict(zip(modules, row.unbind(), strict=True))
        for name, row in zip(specialists.adapters, fitted, strict=True)
    }


def watched_modules(specialists: Specialists, settings: NullSpaceSettings) -> list[str]:
    """The adapted modules whose inputs are looked at.

    Raises:
        ConfigError: there are none, or no adapter acts below them.
    """
    modules = next(iter(specialists.adapters.values())).modules
    layers = len(specialists.backbone.layers())
    first = layers - max(1, round(settings.depth * layers))
    named = [module for module in modules if module.rpartition(".")[2] == settings.watched]
    watched = [module for module in named if layer_of(module) >= first]
    lowest = min(map(layer_of, modules))
    if not any(layer_of(module) > lowest for module in watched):
        kinds = ", ".join(sorted({module.rpartition(".")[2] for module in modules}))
        raise ConfigError(
            f"method.null_space.watched={settings.watched!r}, depth={settings.depth:g}: expected adapted modules from "
            f"layer {first} on with adapters below them; the adapters change {kinds} of layers {lowest} to "
            f"{max(map(layer_of, modules))} of {layers}"
        )
    return watched


def projections(specialists: Specialists, name: str, watched: Sequence[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """Module -> an expert's A, (r, in), and ``(A Aᵀ)⁻¹``, (r, r), where the backbone is."""
    device, pairs = specialists.backbone.device, {}
    for module in watched:
        a = specialists.adapters[name].modules[module].a.double()
        inverse = torch.linalg.inv(a @ a.T + LEAST * torch.eye(len(a), dtype=a.dtype, device=a.device))
        pairs[module] = a.float().to(device), inverse.float().to(device)
    return pairs


def drawn(material: CalibrationData, name: str, step: int, count: int) -> list[Prompt]:
    """The prompts of a step: an expert's own, one after the other, in a new order each time all have had their turn."""
    prompts = holding(material.prompts, material.specialists.expert_modality[name])
    turns = [divmod(step * count + number, len(prompts)) for number in range(count)]
    orders = {turn: generator(material.seed, f"nsc-{name}", turn).permutation(len(prompts)) for turn, _ in turns}
    return [prompts[orders[turn][number]] for turn, number in turns]


def null_share(
    specialists: Specialists, name: str, batch: Batch, pairs: dict[str, tuple[Tensor, Tensor]], which: str
) -> Tensor:
    """Mean of ω over an expert's positions and over the watched modules, differentiable."""
    tokens = batch.mask.bool() if which == "all" else tokens_of(batch, specialists.expert_modality[name])
    with _inputs_of(specialists, list(pairs)) as inputs:
        decoder = specialists.backbone.model.get_decoder()
        decoder(inputs_embeds=batch.embeds, attention_mask=batch.mask, position_ids=batch.positions(), use_cache=False)
    return torch.stack([null_shares(inputs[module][tokens], *pair).mean() for module, pair in pairs.items()]).mean()


def null_shares(z: Tensor, a: Tensor, inverse: Tensor) -> Tensor:
    """ω of inputs: (n, in), A (r, in) and ``(A Aᵀ)⁻¹`` (r, r) -> (n,)."""
    wide = z.float()
    inner = wide @ a.T
    through = ((inner @ inverse) * inner).sum(dim=-1) / (wide.square().sum(dim=-1) + LEAST)
    return (1 - through).clamp_min(LEAST_SHARE).sqrt()


@contextmanager
def _inputs_of(specialists: Specialists, modules: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """While it lasts, what each module was given last, (B, T, in), with its graph."""
    inputs: dict[str, Tensor] = {}
    model = specialists.backbone.model
    handles = [
        model.get_submodule(module.removeprefix(PREFIX)).register_forward_pre_hook(
            lambda _, args, module=module: inputs.update({module: args[0]})
        )
        for module in modules
    ]
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()
