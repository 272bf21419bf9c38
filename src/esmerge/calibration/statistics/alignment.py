"""Expert Merging's coefficients: fitted so that the merged model answers to its experts (arXiv 2509.25712).

On expert k's own unlabelled inputs the merged model is to have expert k's hidden states at the middle layer and its
next-token distributions; a penalty keeps the coefficients near their start::

    loss = mean_k [ KL(p_k ‖ p_merged) + hidden · mean (h_k − h_merged)² ] + regulariser · Σ_i mean_l |c[i, l] − start|

Differences from the authors' code: the inputs are the probe's prompts, and expert k is matched on the positions of
its own modality; there is one coefficient per expert and layer, as the paper writes, where the code has one per
weight matrix; the divergence stands for the soft cross-entropy, which differs by the expert's own entropy and so has
the same gradient; every step reads all calibration prompts instead of eight, so nothing but their choice is random;
the gradient is not clipped and the coefficients do not decay (1e-5 there). All experts' losses weigh the same, their
default; the hidden states' loss is the paper's, which their command line leaves out unless layers are named. Expert
Merging++, which splits important layers into chunks, is not included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from esmerge.calibration.api import STATISTICS, CalibrationData, StatisticInfo
from esmerge.calibration.fitting import Mixture, fit, mixture
from esmerge.calibration.types import Statistics
from esmerge.calibration.watch import batches, holding, tokens_of
from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Prompt
from esmerge.core.rng import generator
from esmerge.core.validation import above_zero, at_least, check_choice
from esmerge.model.prompt_encoder import Batch
from esmerge.specialists.specialists import Specialists

FINAL = 0.1  # the rate's last share of itself: the authors' cosine, of one period of 50 steps
LAYERS = ("middle", "all")


@dataclass(frozen=True)
class AlignmentSettings:
    """Settings of the fit.

    Attributes:
        samples: prompts per expert. Published: 5 in the code, and no gain beyond 5 to 10 in the paper.
        steps: updates, each over all prompts. Published: one pass over the prompts, about one update per 8 of them.
        rate: Adam's, of the coefficients' logits. Published: 0.5, as here.
        start: every coefficient before the fit, in (0, 1). Published: 0.1, as here.
        layers: whose hidden states are matched: ``middle`` (the paper's choice) or ``all``.
        hidden: weight of the hidden states' loss. Published: 1, as here.
        regulariser: weight of the penalty. Published: 5 (InternVL2.5) and 0.8 (Qwen2-VL); LoRA experts differ so
            little that at 5 most coefficients never leave their start.
        batch: prompts per pass; changes memory, not results.
    """

    samples: int = 10
    steps: int = 50
    rate: float = 0.5
    start: float = 0.1
    layers: str = "middle"
    hidden: float = 1.0
    regulariser: float = 0.8
    batch: int = 10

    def __post_init__(self) -> None:
        at_least(self, "method.alignment", 1, "samples", "steps", "batch")
        at_least(self, "method.alignment", 0, "hidden", "regulariser")
        above_zero(self, "method.alignment", "rate")
        check_choice("alignment.layers", self.layers, LAYERS)
        if not 0 < self.start < 1:
            raise ConfigError(f"method.alignment.start={self.start}: expected a number between 0 and 1")


@dataclass(frozen=True)
class Response:
    """What a model makes of the P positions of one modality in a batch.

    Attributes:
        hidden: outputs of the matched layers, before the final norm, (layers, P, d).
        final: the decoder's output, which the next-token logits are read from, (P, d).
    """

    hidden: Tensor
    final: Tensor


@dataclass(frozen=True)
class Target:
    """How one expert alone responds to a batch of its own prompts.

    Attributes:
        batch: the prompts.
        tokens: positions of the expert's modality, (B, T) boolean.
        response: the expert's.
        weight: of each of these positions in the loss: the mean over the expert's positions, and over the experts.
    """

    batch: Batch
    tokens: Tensor
    response: Response
    weight: float


@STATISTICS.register("alignment", AlignmentSettings, StatisticInfo(gradients=True, fits=True))
def alignment(material: CalibrationData, settings: AlignmentSettings) -> Statistics:
    """Fitted coefficients in (0, 1): expert -> ``layer`` -> (layers,).

    Raises:
        InputError: an expert's modality is in no prompt.
        NumberError: the fit diverged.
    """
    specialists, depth = material.specialists, len(material.specialists.backbone.layers())
    layers = [(depth - 1) // 2] if settings.layers == "middle" else list(range(depth))
    with mixture(specialists.backbone.model, specialists.adapters) as mixed:
        targets = collect_targets(material, mixed, settings, layers)

        def losses(step: int) -> Iterator[Tensor]:
            for target in targets:
                yield alignment_loss(specialists, target, layers, settings.hidden)
            yield settings.regulariser * (mixed.weights - settings.start).abs().mean(dim=1).sum()

        start = torch.full_like(mixed.weights, settings.start).logit()
        fit("alignment", mixed, start, torch.sigmoid, losses, settings.steps, settings.rate, FINAL)
        return mixed.measured(specialists.adapters)


@torch.no_grad()
def collect_targets(
    material: CalibrationData, mixed: Mixture, settings: AlignmentSettings, layers: Sequence[int]
) -> list[Target]:
    """Every expert's responses to its own calibration prompts, in batches."""
    specialists, targets = material.specialists, []
    for index, expert in enumerate(specialists.adapters):
        mixed.only(index)
        prompts = calibration_prompts(material, expert, settings.samples)
        expert_batches = list(batches(specialists, prompts, settings.batch))
        masks = [tokens_of(batch, specialists.expert_modality[expert]) for batch in expert_batches]
        weight = 1 / (len(specialists.adapters) * sum(int(mask.sum()) for mask in masks))
        for batch, mask in zip(expert_batches, masks, strict=True):
            targets.append(Target(batch, mask, respond(specialists, batch, mask, layers), weight))
    return targets


def calibration_prompts(material: CalibrationData, expert: str, samples: int) -> list[Prompt]:
    """At most ``samples`` of the prompts that hold the expert's modality, drawn without repetition."""
    prompts = holding(material.prompts, material.specialists.expert_modality[expert])
    order = generator(material.seed, f"alignment-{expert}").permutation(len(prompts))
    return [prompts[index] for index in order[:samples]]


def respond(specialists: Specialists, batch: Batch, tokens: Tensor, layers: Sequence[int]) -> Response:
    """The response, at positions ``tokens``, of the backbone with whatever is attached to it."""
    hidden: list[Tensor] = []

    def keep(module: object, args: object, output: Tensor | tuple[Tensor, ...]) -> None:
        hidden.append((output[0] if isinstance(output, tuple) else output)[tokens].float())

    handles = [specialists.backbone.layers()[layer].register_forward_hook(keep) for layer in layers]
    try:
        decoder = specialists.backbone.model.get_decoder()
        output = decoder(
            inputs_embeds=batch.embeds, attention_mask=batch.mask, position_ids=batch.positions(), use_cache=False
        )
    finally:
        for handle in handles:
            handle.remove()
    return Response(torch.stack(hidden), output.last_hidden_state[tokens])


def alignment_loss(specialists: Specialists, target: Target, layers: Sequence[int], hidden: float) -> Tensor:
    """The batch's part of the loss: KL(expert ‖ merged) of the next token plus ``hidden`` times the squared error."""
    response = respond(specialists, target.batch, target.tokens, layers)
    logits = specialists.backbone.model.get_output_embeddings()
    merged, expert = (logits(r.final).float().log_softmax(dim=-1) for r in (response, target.response))
    divergence = functional.kl_div(merged, expert, reduction="sum", log_target=True)
    errors = (response.hidden - target.response.hidden).square().mean(dim=(0, 2)).sum()
    return target.weight * (divergence + hidden * errors)
