"""How each specialist's embedding space responds to the probe: one prefill per model, one layer's graph at a time.

The gradient of layer l's loss with respect to layer l's own parameters needs only that layer's backward pass. So each
layer's input is detached, the layer runs with gradients, its loss is differentiated, and its graph is dropped before
the next layer runs. The numbers are those of the whole retained graph, at the activation memory of one layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from src.coefficients.signals import Signals
from src.errors import InputError
from src.progress import progress
from src.specialists.adapters import adapted_parameters
from src.specialists.pieces import Pieces
from src.specialists.render import Batch
from src.specialists.team import Team

OnLayer = Callable[[int, Tensor], None]


def collect(team: Team, prompts: Sequence[Pieces], batch_size: int, space: str, score: str = "absolute") -> Signals:
    """Pooled responses of the backbone and every expert, and every expert's gradient scores.

    All of them read the same input embeddings (arXiv 2603.14405, embedding responses).

    Args:
        prompts: from a probe variant; every modality of the team must occur.
        batch_size: prompts per pass.
        space: ``factors`` scores the entries of A and B, ``delta`` those of the dense update.
        score: ``absolute`` adds |gradient| over batches, ``squared`` its square.

    Raises:
        InputError: a modality of the team is in no prompt.
    """
    pooled: dict[str, dict[str, list[Tensor]]] = {
        name: {m: [] for m in team.modalities} for name in ("", *team.adapters)
    }
    scores: dict[str, dict[str, Tensor]] = {name: {} for name in team.adapters}
    with team.backbone.attached(team.adapters) as activate, progress("probe", len(prompts)) as bar:
        for start in range(0, len(prompts), batch_size):
            with torch.no_grad():
                batch = team.renderer.batch(prompts[start : start + batch_size])
            activate(None)
            reference = _backbone_pass(team, batch, pooled[""])
            for name in team.adapters:
                activate(name)
                parameters = adapted_parameters(team.backbone.model, name, space)
                with _requiring_grad(parameters):
                    _expert_pass(team, name, batch, reference, pooled[name], parameters, scores[name], score)
            bar.update(len(batch.spans))
    return _signals(team, pooled, scores)


def _backbone_pass(team: Team, batch: Batch, pooled: dict[str, list[Tensor]]) -> list[Tensor]:
    outputs: list[Tensor] = []
    with torch.no_grad():
        _run(team, batch, lambda _, hidden: outputs.append(hidden))
    _pool(batch, outputs, pooled)
    return outputs


def _expert_pass(
    team: Team,
    name: str,
    batch: Batch,
    reference: list[Tensor],
    pooled: dict[str, list[Tensor]],
    parameters: dict[int, dict[str, nn.Parameter]],
    scores: dict[str, Tensor],
    score: str,
) -> None:
    own = _token_mask(batch, team.own[name])
    outputs: list[Tensor] = []

    def on_layer(layer: int, hidden: Tensor) -> None:
        outputs.append(hidden.detach())
        wanted = parameters.get(layer, {})
        if not wanted or not own.any():
            return
        # loss[l] of the paper's element-wise section: mean over own-modality tokens and features
        loss = (hidden[own].float() - reference[layer][own].float()).square().mean()
        for key, gradient in zip(wanted, torch.autograd.grad(loss, list(wanted.values())), strict=True):
            magnitude = gradient.float().abs() if score == "absolute" else gradient.float().square()
            scores[key] = scores[key] + magnitude if key in scores else magnitude

    with torch.enable_grad():
        _run(team, batch, on_layer)
    _pool(batch, outputs, pooled)


def _run(team: Team, batch: Batch, on_layer: OnLayer) -> None:
    """One prefill; each layer reads a detached input and hands its output, before the final norm, to ``on_layer``."""
    handles = []
    for index, layer in enumerate(team.backbone.layers()):
        handles.append(layer.register_forward_pre_hook(_detach_input, with_kwargs=True))
        handles.append(layer.register_forward_hook(_observe(index, on_layer)))
    try:
        decoder: Any = team.backbone.model.get_decoder()
        decoder(inputs_embeds=batch.embeds, attention_mask=batch.mask, position_ids=batch.positions(), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()


def _detach_input(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    if args:
        return (args[0].detach(), *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": kwargs["hidden_states"].detach()}


def _observe(index: int, on_layer: OnLayer) -> Callable[..., Any]:
    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        on_layer(index, hidden)
        detached = hidden.detach()
        return (detached, *output[1:]) if isinstance(output, tuple) else detached

    return hook


def _pool(batch: Batch, outputs: list[Tensor], pooled: dict[str, list[Tensor]]) -> None:
    """Append the mean over each span, (L, hidden), to its modality's samples."""
    stacked = torch.stack(outputs)
    for row, spans in enumerate(batch.spans):
        for span in spans:
            pooled[span.modality].append(stacked[:, row, span.start : span.stop].float().mean(dim=1).cpu())


def _token_mask(batch: Batch, modality: str) -> Tensor:
    mask = torch.zeros(batch.mask.shape, dtype=torch.bool, device=batch.mask.device)
    for row, spans in enumerate(batch.spans):
        for span in spans:
            if span.modality == modality:
                mask[row, span.start : span.stop] = True
    return mask


@contextmanager
def _requiring_grad(parameters: dict[int, dict[str, nn.Parameter]]) -> Iterator[None]:
    flat = [parameter for layer in parameters.values() for parameter in layer.values()]
    before = [parameter.requires_grad for parameter in flat]
    for parameter in flat:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter, flag in zip(flat, before, strict=True):
            parameter.requires_grad_(flag)


def _signals(team: Team, pooled: dict[str, dict[str, list[Tensor]]], scores: dict[str, dict[str, Tensor]]) -> Signals:
    missing = [modality for modality in team.modalities if not pooled[""][modality]]
    if missing:
        raise InputError(f"the probe holds no {', '.join(missing)}: every expert's modality must occur")
    stacked = {
        name: {modality: torch.stack(rows, dim=1) for modality, rows in columns.items()}
        for name, columns in pooled.items()
    }
    return Signals(
        experts=tuple(team.adapters),
        modalities=team.modalities,
        own=tuple(team.modalities.index(team.own[name]) for name in team.adapters),
        backbone=stacked.pop(""),
        responses=stacked,
        scores={name: {key: value.cpu() for key, value in tensors.items()} for name, tensors in scores.items()},
    )
