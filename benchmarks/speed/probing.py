"""Ways to compute the coefficients of a probe, to be timed side by side: ours, the reference's procedure, the floor.

``reference`` is our own re-enactment of what the authors' public code does, not that code: a full copy of the model
for the backbone and for every expert, the backbone's pass repeated for every expert, the whole graph of all layers kept
while their losses are differentiated, new random directions for every distance and, on request, text generated for each
probe of which only the prefill is used. ``floor`` is what cannot be left out: one forward pass of the backbone and one
forward and backward pass of every expert, as plain calls of transformers.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from esmerge.coefficients.estimation import coefficients
from esmerge.coefficients.formulas import (
    element_coefficients,
    joint_coefficients,
    layer_coefficients,
    standardise,
    unit_directions,
)
from esmerge.coefficients.types import ESConfig
from esmerge.coefficients.uncertainty import measured_distances
from esmerge.core.cost import Cost, cost
from esmerge.core.names import layer_of
from esmerge.core.prompts import Prompt
from esmerge.merging.ops.space import tensor_shapes
from esmerge.model.attach import adapted_parameters, attach
from esmerge.model.prompt_encoder import Batch
from esmerge.probe.layout import Layout, signals_of
from esmerge.probe.responses import record
from esmerge.probe.signal_file import SignalFile, SignalReader
from esmerge.probe.stored import load_signals, record_signals
from esmerge.specialists.specialists import Specialists

JOINT = ESConfig("joint", resamples=0)
BATCH = 2  # prompts, as the reference has it


@dataclass(frozen=True)
class Case:
    """What is probed.

    Attributes:
        specialists: random experts on a random backbone.
        prompts: the probe.
        new_tokens: that the reference generates for each prompt; 0 for a prefill alone.
    """

    specialists: Specialists
    prompts: list[Prompt]
    new_tokens: int = 0

    def batches(self) -> Iterator[Batch]:
        for start in range(0, len(self.prompts), BATCH):
            with torch.no_grad():
                batch = self.specialists.prompt_encoder.batch(self.prompts[start : start + BATCH])
            yield batch


def ours(case: Case) -> dict[str, Tensor]:
    """Joint coefficients as a sweep computes them, signals on disk."""
    with tempfile.TemporaryDirectory() as folder:
        record_signals(case.specialists, case.prompts, BATCH, ["factors"], "absolute", Path(folder))
        signals = load_signals(Path(folder))
        distances = measured_distances(signals, JOINT, 0)
        first = next(iter(case.specialists.adapters.values()))
        return coefficients(signals, JOINT, tensor_shapes(first, "factors"), 0, distances).tensors()


def signals(case: Case) -> Cost:
    """What reading the probe takes beyond the backbone with its adapters attached, and measuring distances after it.

    They follow each other, as in a sweep, so seconds add up and the larger peak counts.
    """
    with tempfile.TemporaryDirectory() as folder:
        path, spent = Path(folder) / "signals.safetensors", list[Cost]()
        with ExitStack() as reading:

            def begin(layout: Layout) -> SignalFile:  # once the adapters are attached
                spent.append(reading.enter_context(cost(str(case.specialists.backbone.device))))
                return reading.enter_context(SignalFile(path, layout.shapes))

            layout = record(case.specialists, case.prompts, BATCH, ["factors"], "absolute", begin)
        with cost(str(case.specialists.backbone.device)) as measuring:
            measured_distances(signals_of(layout.names(), SignalReader(path)), JOINT, 0)
    spent.append(measuring)
    peaks = [part.memory for part in spent if part.memory is not None]
    return Cost(sum(part.seconds for part in spent), max(peaks) if peaks else None)


def floor(case: Case) -> None:
    """One forward pass of the backbone, one forward and backward pass of every expert."""
    for _ in floor_batches(case):
        pass


def floor_batches(case: Case) -> Iterator[int]:
    """The floor batch by batch; yields the number of prompts of each when it is done."""
    with case.specialists.backbone.attached(case.specialists.adapters) as activate:
        for batch in case.batches():
            activate(None)
            with torch.no_grad():
                _decode(case.specialists.backbone.model, batch)
            for name in case.specialists.adapters:
                activate(name)
                own = _parameters(case.specialists.backbone.model, name)
                flat = [parameter.requires_grad_(True) for entry in own.values() for parameter in entry.values()]
                hidden = _decode(case.specialists.backbone.model, batch).last_hidden_state
                torch.autograd.grad(hidden.float().square().mean(), flat)
            yield len(batch.spans)


def reference(case: Case, copied: bool = True) -> dict[str, Tensor]:
    """Joint coefficients by the re-enacted procedure.

    Args:
        copied: whether the backbone is copied as well; else the one that is there is one of the N + 1 models.
    """
    backbone = case.specialists.backbone.model
    models = {None: copy.deepcopy(backbone) if copied else backbone}
    for name, state in case.specialists.adapters.items():
        models[name] = copy.deepcopy(case.specialists.backbone.model)
        attach(models[name], {name: state})(name)
    alpha = _layer_stage(case, models)
    joint_by_name: dict[str, Tensor] = {}
    scores = {name: _element_stage(case, models, name) for name in case.specialists.adapters}
    for key in next(iter(scores.values())):
        beta = element_coefficients(torch.stack([own[key] for own in scores.values()]), JOINT.tau)
        for name, value in zip(scores, joint_coefficients(alpha[:, layer_of(key)].to(beta.device), beta), strict=True):
            joint_by_name[f"{name}.{key}"] = value
    return joint_by_name


def _layer_stage(case: Case, models: dict[str | None, nn.Module]) -> Tensor:
    """Layer-wise coefficients, the backbone's responses taken anew for every expert."""
    specialists, modalities = case.specialists, case.specialists.modalities
    distances = torch.zeros(len(specialists.adapters), len(modalities), len(specialists.backbone.layers()))
    for i, name in enumerate(specialists.adapters):
        pooled = [_responses(case, models[None]), _responses(case, models[name])]
        for t, modality in enumerate(modalities):
            for layer in range(distances.shape[-1]):
                x, y = (torch.stack([sample[layer] for sample in responses[modality]]) for responses in pooled)
                distances[i, t, layer] = _distance(*standardise(x, y))
    own = [modalities.index(specialists.expert_modality[name]) for name in specialists.adapters]
    return layer_coefficients(distances, own, JOINT.cross_weight, JOINT.temperature)


def _distance(x: Tensor, y: Tensor) -> Tensor:
    directions = unit_directions(x.shape[1], int(JOINT.projections), torch.Generator()).to(x)
    gap = (x @ directions.T).sort(dim=0).values - (y @ directions.T).sort(dim=0).values
    return gap.square().mean().sqrt()


@torch.no_grad()
def _responses(case: Case, model: Any) -> dict[str, list[list[Tensor]]]:
    """Modality -> sample -> layer -> pooled output."""
    responses: dict[str, list[list[Tensor]]] = {modality: [] for modality in case.specialists.modalities}
    for batch in case.batches():
        for row, spans in enumerate(batch.spans):
            layers = _prefill(case, model, batch.embeds[row : row + 1], batch.mask[row : row + 1])
            for span in spans:
                pooled = [hidden[0, span.start : span.stop].float().mean(dim=0) for hidden in layers]
                responses[span.modality].append(pooled)
    return responses


def _prefill(case: Case, model: Any, embeds: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    """Outputs of all layers for one prompt."""
    if not case.new_tokens:
        return _decode_all(model, embeds, mask)
    settings = GenerationConfig(
        max_new_tokens=case.new_tokens, min_new_tokens=case.new_tokens, do_sample=False, pad_token_id=0,
        output_hidden_states=True, return_dict_in_generate=True,
    )  # fmt: skip
    output = model.generate(inputs_embeds=embeds, attention_mask=mask, generation_config=settings)
    return output.hidden_states[0][1:]


def _element_stage(case: Case, models: dict[str | None, nn.Module], name: str) -> dict[str, Tensor]:
    """Gradient scores of one expert, from the retained graph of all layers."""
    layers = _parameters(models[name], name)
    for entry in layers.values():
        for parameter in entry.values():
            parameter.requires_grad_(True)
    totals: dict[str, Tensor] = {}
    for batch in case.batches():
        mask = torch.zeros(batch.mask.shape, dtype=torch.bool)
        for row, spans in enumerate(batch.spans):
            for span in spans:
                mask[row, span.start : span.stop] |= span.modality == case.specialists.expert_modality[name]
        with torch.no_grad():
            still = _decode_all(models[None], batch.embeds, batch.mask)
        moved = _decode_all(models[name], batch.embeds, batch.mask)
        for layer, parameters in layers.items():
            loss = (moved[layer][mask].float() - still[layer][mask].float()).square().mean()
            gradients = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True)
            for key, gradient in zip(parameters, gradients, strict=True):
                totals[key] = totals.get(key, torch.zeros(())) + gradient.float().abs()
    return totals


def _parameters(model: nn.Module, name: str) -> dict[int, dict[str, nn.Parameter]]:
    return adapted_parameters(model, name, "factors")


def _decode(model: Any, batch: Batch) -> Any:
    return model.get_decoder()(inputs_embeds=batch.embeds, attention_mask=batch.mask, use_cache=False)


def _decode_all(model: Any, embeds: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    decoder = model.get_decoder()
    outputs = decoder(inputs_embeds=embeds, attention_mask=mask, use_cache=False, output_hidden_states=True)
    return outputs.hidden_states[1:]


WORKS: dict[str, Callable[[Case], object]] = {"ours": ours, "reference": reference, "floor": floor}
